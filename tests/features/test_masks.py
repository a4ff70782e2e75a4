"""Masks that a data set brings take the place of the threshold, and of nothing else."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import TINY_DATA, composed
from helpers.logs import warned
from helpers.small_sets import described, opened, write_folders, write_image

from hep2.data import sources
from hep2.data.fold import Fold, open_fold
from hep2.data.store import open_cells
from hep2.data.views import oriented
from hep2.features.codebook import Codebook, cell_mask, two_regions
from hep2.features.extraction import extraction, features_by

CELL = "{label}/{specimen}/{i}.png"
SETTINGS = {"_target_": "hep2.features.codebook.Codebook", "descriptor": "dct",
            "codebook": "kmeans", "words": 4, "patch": 4, "stride": 2, "coefficients": 5,
            "rim": 0.1, "sample": 200}  # fmt: skip


def test_masks_are_resized_as_their_images_are(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", CELL)
    disc = np.zeros((20, 30), np.uint8)
    cv2.circle(disc, (15, 10), 7, 7, -1)  # a number of an object, no 255
    first = root / CELL.format(**described()[0])
    assert cv2.imwrite(str(first), disc * 20 + np.eye(20, 30, dtype=np.uint8))
    assert cv2.imwrite(str(first.with_name("00001_mask.png")), disc)
    cells = open_cells(sources.folder(str(root)), tmp_path / "cache", 60, "green")
    assert cells.masks is not None and cells.masks.shape == cells.images.shape
    assert set(np.unique(cells.masks[0])) == {0, 255}
    assert ((cells.masks[0, 0] > 0) == (cells.images[0, 0] > 70)).mean() > 0.99
    assert not cells.masks[1:].any()


def test_masks_are_no_part_of_what_cells_are(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", CELL)
    plain = opened(sources.folder(str(root)), tmp_path)
    assert plain.masks is None
    write_folders(root, CELL, "{label}/{specimen}/{i}_mask.png")
    masked = opened(sources.folder(str(root)), tmp_path)
    assert masked.masks is not None and masked.masks.any()
    assert masked.key == plain.key
    (store,) = (path.parent for path in (tmp_path / "cache").glob("*/masks.npy"))
    before = masked.masks.copy()
    content = bytearray((store / "masks.npy").read_bytes())
    content[-1] ^= 255
    (store / "masks.npy").write_bytes(content)
    with warned(r"built again: masks\.npy was changed"):
        again = opened(sources.folder(str(root)), tmp_path)
    assert again.masks is not None and np.array_equal(again.masks, before)


def test_masks_that_cannot_be_their_images_are_said_once(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", CELL)
    for cell in described():
        write_image(root / CELL.format(**cell).replace(".png", "_mask.png"), mask=True, side=9)
    with warned("12 masks are not used:") as caught:
        cells = opened(sources.folder(str(root)), tmp_path)
    assert "of another size than its image: 12 rows, e.g." in caught[0]
    assert cells.masks is not None and not cells.masks.any()


@pytest.fixture
def fold(cache_dir: Path) -> Fold:
    return open_fold(composed(*TINY_DATA, "data.image_size=16", f"cache_dir={cache_dir}"))


def left_half(fold: Fold) -> Fold:
    """Every second cell has a mask: its left half."""
    masks = np.zeros(fold.cells.images.shape, np.uint8)
    masks[::2, :, :, :8] = 255
    return replace(fold, cells=replace(fold.cells, masks=masks))


@pytest.mark.parametrize("turns", [1, 3])
def test_a_codebook_takes_masks_and_turns_them_with_their_images(
    fold: Fold, tmp_path: Path, turns: int
) -> None:
    known = left_half(fold)
    plain, masked = (extraction(SETTINGS, one) for one in (fold, known))
    assert plain.key != masked.key and (plain.masked, masked.masked) == (False, True)
    by_threshold, by_mask = (
        features_by(transform, one.cells, tmp_path, turns)
        for transform, one in ((plain, fold), (masked, known))
    )
    assert np.array_equal(by_threshold[1::2], by_mask[1::2])
    assert not np.allclose(by_threshold[::2], by_mask[::2])
    settings = {key: value for key, value in SETTINGS.items() if key != "_target_"}
    book = Codebook(**settings)
    images = fold.cells.images[fold.split.train, 0].astype(np.float32) / 255
    book.fit(images, int(fold.provenance["seed"]))
    image = fold.cells.images[4, 0].astype(np.float32) / 255
    half = np.tile(np.arange(16) < 8, (16, 1))
    pairs = [(oriented(image, k), oriented(half, k).astype(np.float32)) for k in range(turns)]
    expected = book.transform(*(np.stack(part) for part in zip(*pairs, strict=True))).mean(axis=0)
    assert np.allclose(by_mask[4], expected, atol=1e-5)
    inside, rim = two_regions(half, 1.6)
    assert inside[:, 9:].sum() == rim[:, 10:].sum() == 0
    assert not np.array_equal(cell_mask(image), half)


def test_what_takes_no_masks_is_as_without(fold: Fold) -> None:
    settings = {"_target_": "hep2.features.pixels.Pixels"}
    assert extraction(settings, fold).key == extraction(settings, left_half(fold)).key
