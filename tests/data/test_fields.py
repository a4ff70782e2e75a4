"""Cells are cut out of fields as training sets have them, or marked, or the mask is refused."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.small_fields import BOXES, SHAPE, WHOLE, field_of, labels_of, write_fields
from helpers.tiffs import tiff
from PIL import Image

from benchmarks.fields import simulated_field
from hep2.data.fields import Cut, cut_field, cut_out, read_labels
from hep2.data.header import ImageError
from hep2.data.simulator.cells import simulate
from hep2.errors import HEp2Error

TIGHT = Cut(margin=0)


def cut(root: Path, how: Cut = TIGHT, size: int = 16) -> Any:
    field, mask = root / "fields/f.png", root / "masks/f_cp_masks.png"
    return cut_field(field, mask, size, "green", None, 65535, how)


def test_every_label_is_a_cell_or_marked(tmp_path: Path) -> None:
    write_fields(tmp_path, "f")
    made = cut(tmp_path)
    assert [cell.label for cell in made.cells] == sorted(BOXES)
    problems = {cell.label: cell.problem.partition(":")[0] for cell in made.cells}
    assert problems == {3: "", 7: "cut off by the field's border", 200: "", 201: "",
                        210: "too small"}  # fmt: skip
    assert made.images.shape == (len(WHOLE), 16, 16)
    assert (made.width, made.height) == SHAPE[::-1]


def test_cells_are_the_pixels_under_their_labels(tmp_path: Path) -> None:
    write_fields(tmp_path, "f")
    for image, label in zip(cut(tmp_path).images, WHOLE, strict=True):
        brightness = 40 * (1 + list(BOXES).index(label))
        middle = image[4:12, 4:12].astype(int)
        assert (middle >= brightness).all() and (middle < brightness + 40).all()


def test_a_cut_is_the_square_around_the_middle() -> None:
    field = np.arange(100, dtype=np.uint8).reshape(10, 10)
    np.testing.assert_array_equal(cut_out(field, (2, 3, 6, 7), 4, TIGHT), field[2:6, 3:7])
    np.testing.assert_array_equal(cut_out(field, (3, 3, 5, 7), 4, TIGHT), field[2:6, 3:7])
    wider = cut_out(field, (3, 4, 5, 6), 4, Cut(margin=0.5))
    np.testing.assert_array_equal(wider, field[2:6, 3:7])


def test_masks_are_where_the_cells_are(tmp_path: Path) -> None:
    write_fields(tmp_path, "f")
    made = cut(tmp_path, Cut(margin=0.5))
    for image, mask, label in zip(made.images, made.masks, WHOLE, strict=True):
        top, left, bottom, right = BOXES[label]
        share = (bottom - top) * (right - left) / (2 * max(bottom - top, right - left)) ** 2
        assert abs(mask.mean() - share) < 0.05
        assert image[mask].mean() > image[~mask].mean() + 30


def test_beyond_the_border_lies_the_reflection() -> None:
    field = np.arange(100, dtype=np.uint8).reshape(10, 10)
    made = cut_out(field, (0, 0, 2, 2), 4, Cut(margin=0.5))
    np.testing.assert_array_equal(made[1:, 1:], field[:3, :3])
    np.testing.assert_array_equal(made[0, 1:], field[1, :3])
    np.testing.assert_array_equal(made[1:, 0], field[:3, 1])


def test_stretching_reaches_black_and_white() -> None:
    field = np.linspace(60, 90, 100).astype(np.uint8).reshape(10, 10)
    made = cut_out(field, (2, 2, 8, 8), 6, Cut(0, 0, True))
    assert (made.min(), made.max()) == (0, 255)


def test_cells_of_fields_look_like_those_of_the_training_set() -> None:
    """Of both, the nucleus has the same share of the side."""

    def share(image: Any) -> float:
        smooth = cv2.GaussianBlur(image, (0, 0), 2)
        _, inside = cv2.threshold(smooth, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        return float(np.sqrt(inside[16:-16, 16:-16].sum() / inside.size))

    sets = simulate(cells=60, specimens=20)
    trained = [share(image) for image in sets.images[sets.labels == "homogeneous"]]
    field, labels = simulated_field("homogeneous", 3, (400, 500), 12)
    found = []
    for label in np.unique(labels)[2:]:  # the first is cut off
        rows, columns = np.nonzero(labels == label)
        box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        found.append(share(cut_out(field, tuple(map(int, box)), 64, Cut())))
    assert abs(np.median(found) / np.median(trained) - 1) < 0.1


def written(file: Path, labels: Any) -> Path:
    Image.fromarray(labels).save(file)
    return file


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("packed", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_label_images_of_any_depth(dtype: type, packed: str | None, tmp_path: Path) -> None:
    labels = labels_of(dtype)
    if dtype in (np.int32, np.float32):
        labels[labels == 200] = 70_000
    Image.fromarray(labels).save(tmp_path / "m.tif", compression=packed)
    np.testing.assert_array_equal(read_labels(tmp_path / "m.tif", SHAPE), labels)


def test_label_images_as_png_palette_and_either_end(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.uint16):
        file = written(tmp_path / "m.png", labels_of(dtype))
        np.testing.assert_array_equal(read_labels(file, SHAPE), labels_of())
    painted = Image.fromarray(labels_of(np.uint8))
    painted.putpalette([value for value in range(256) for _ in range(3)][::-1])
    painted.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "p.png", SHAPE), labels_of())
    for order in "<>":
        (tmp_path / "e.tif").write_bytes(tiff(labels_of(), order=order))
        np.testing.assert_array_equal(read_labels(tmp_path / "e.tif", SHAPE), labels_of())


@pytest.mark.parametrize("white", [1, 255])
def test_pieces_of_one_number_are_cells(white: int, tmp_path: Path) -> None:
    inside = (labels_of() > 0).astype(np.uint8) * white
    found = read_labels(written(tmp_path / "m.png", inside), SHAPE)
    assert set(np.unique(found)) == set(range(len(BOXES) + 1))
    top, left, bottom, right = BOXES[200]
    assert len(set(found[top:bottom, left:right].ravel().tolist())) == 1


def test_one_cell_keeps_its_number(tmp_path: Path) -> None:
    one = np.where(labels_of() == 200, 200, 0).astype(np.uint8)
    assert set(np.unique(read_labels(written(tmp_path / "m.png", one), SHAPE))) == {0, 200}


def test_huge_numbers_take_no_memory_of_their_size(tmp_path: Path) -> None:
    write_fields(tmp_path, "f")
    labels = labels_of(np.int32)
    labels[labels == 201] = 2_000_000_000
    Image.fromarray(labels).save(tmp_path / "masks/f.tif")
    made = cut_field(tmp_path / "fields/f.png", tmp_path / "masks/f.tif", 16, "green", None, 65535,
                     TIGHT)  # fmt: skip
    assert [cell.label for cell in made.cells] == [3, 7, 200, 210, 2_000_000_000]
    assert len(made.images) == 3


def test_a_million_labels_are_a_picture(tmp_path: Path) -> None:
    million = np.arange(1_000_000, dtype=np.int32).reshape(1000, 1000)
    Image.fromarray(million).save(tmp_path / "masks.tif")
    Image.fromarray(million.astype(np.uint8)).save(tmp_path / "field.png")
    with pytest.raises(ImageError, match=r"999999 numbers: no label image, a picture\?"):
        cut_field(tmp_path / "field.png", tmp_path / "masks.tif", 16, "green", None, 65535, TIGHT)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (labels_of()[:50], "its mask has 90 x 50 pixels, the field 90 x 60"),
        (np.stack([labels_of(np.uint8)] * 3, 2), r"its mask has colours \(RGB\)"),
        (labels_of() * 0, "its mask has no cell"),
        (labels_of().astype(np.float32) / 2, "fractions or negative numbers"),
        (labels_of().astype(np.float32) * np.nan, "fractions or negative numbers"),
        (-labels_of().astype(np.int32), "fractions or negative numbers"),
    ],
)
def test_masks_that_cannot_be_are_one_sentence(mask: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=said) as caught:
        read_labels(written(tmp_path / "m.tif", mask), SHAPE)
    assert "\n" not in str(caught.value)


def test_pages_and_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "m.tif").write_bytes(tiff(labels_of(), labels_of()))
    with pytest.raises(ImageError, match="2 pages; save one label image a file"):
        read_labels(tmp_path / "m.tif", SHAPE)
    with pytest.raises(ImageError, match=r"missing mask n\.png"):
        read_labels(tmp_path / "n.png", SHAPE)
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(ImageError, match=r"x\.png is no PNG or TIFF"):
        read_labels(tmp_path / "x.png", SHAPE)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"margin": -1}, r"fields\.margin=-1 must be a number from 0 to 2"),
        ({"margin": float("nan")}, r"fields\.margin=nan must"),
        ({"smallest": 2}, r"fields\.smallest=2 must be a number from 0 to 1"),
        ({"stretch": 1}, r"fields\.stretch=1 must be true or false"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(HEp2Error, match=said):
        Cut(**wrong)


def test_the_outline_is_where_the_cell_is(tmp_path: Path) -> None:
    write_fields(tmp_path, "f")
    for cell in cut(tmp_path).cells:
        top, left, bottom, right = BOXES[cell.label]
        low, high = cell.outline.min(axis=0).tolist(), cell.outline.max(axis=0).tolist()
        assert (low, high) == ([left, top], [right - 1, bottom - 1])


def test_deep_fields_keep_their_depth(tmp_path: Path) -> None:
    write_fields(tmp_path, "f")
    deep = field_of(0, np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / "fields/f.png"), deep)
    made = cut(tmp_path)
    assert made.images.dtype == np.uint16
    assert cv2.imdecode(np.frombuffer(made.picture, np.uint8), cv2.IMREAD_UNCHANGED).max() > 250
