from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import Configure
from numpy.typing import NDArray

from hep2.data.augment import Augmentation
from hep2.data.fold import Fold
from hep2.data.inputs import CellImages
from hep2.stages.autoencoder import augmented_images

FULL: dict[str, Any] = {"flips": True, "rotate": 180, "brightness": 0.1, "contrast": 0.1}
ONLY_FLIPS: dict[str, Any] = {"flips": True, "rotate": 0, "brightness": 0, "contrast": 0}


def picture(dtype: Any = np.uint8, side: int = 32) -> NDArray[Any]:
    """No two pixels are alike: any move shows."""
    values = np.random.default_rng(0).permutation(side * side)
    return (values.reshape(side, side) * (np.iinfo(dtype).max // (side * side) or 1)).astype(dtype)


def one_by_one(settings: dict[str, Any], seed: int) -> Callable[..., NDArray[Any]]:
    """The augmentation of one image of a data set of 100 cells."""
    augmentation = Augmentation(**settings, seed=seed, cells=100)
    return lambda image, epoch, cell: augmentation(image[None], epoch, np.array([cell]))[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_draw_is_a_function_of_seed_epoch_and_cell(dtype: Any) -> None:
    image, keys = picture(dtype), [(epoch, cell) for epoch in range(3) for cell in range(4)]
    there = one_by_one(FULL, seed=5)
    first = {key: there(image, *key) for key in keys}
    elsewhere = one_by_one(FULL, seed=5)  # as in another worker, in another order
    np.random.default_rng(1).random()
    for key in reversed(keys):
        assert np.array_equal(elsewhere(image, *key), first[key])


def test_other_seeds_epochs_and_cells_draw_other_images() -> None:
    image = picture()
    made = [
        one_by_one(FULL, seed=seed)(image, epoch, cell)
        for seed in range(3)
        for epoch in range(3)
        for cell in range(3)
    ]
    assert len({one.tobytes() for one in made}) == 27


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("settings", [FULL, ONLY_FLIPS])
def test_type_and_shape_are_kept(settings: dict[str, Any], dtype: Any) -> None:
    for cell in range(10):
        made = one_by_one(settings, seed=0)(picture(dtype), 0, cell)
        assert made.dtype == dtype and made.shape == (32, 32)


def test_sixteen_bits_keep_their_range() -> None:
    image = np.full((32, 32), 40000, dtype=np.uint16)
    made = [one_by_one(FULL, seed=0)(image, 0, cell) for cell in range(20)]
    levels = np.array([one.mean() for one in made])
    assert np.all(np.abs(levels - 40000) < 0.25 * 65535) and levels.std() > 500


def test_flips_only_move_pixels_and_all_eight_are_drawn() -> None:
    image = picture(np.uint16)
    made = [one_by_one(ONLY_FLIPS, seed=0)(image, 0, cell) for cell in range(100)]
    expected = {
        np.rot90(one, turn).tobytes() for one in (image, image[:, ::-1]) for turn in range(4)
    }
    assert {one.tobytes() for one in made} == expected


def test_free_rotation_fills_corners_by_reflection() -> None:
    settings = {"flips": False, "rotate": 180, "brightness": 0, "contrast": 0}
    image = np.full((32, 32), 200, dtype=np.uint8)
    for cell in range(10):
        assert np.all(one_by_one(settings, seed=0)(image, 0, cell) == 200)


def test_intensity_changes_mildly_and_moves_no_pixel() -> None:
    settings = {"flips": False, "rotate": 0, "brightness": 0.1, "contrast": 0.1}
    image = np.linspace(60, 180, 1024).reshape(32, 32).astype(np.uint8)
    for cell in range(20):
        made = one_by_one(settings, seed=0)(image, 0, cell)
        assert np.all(np.diff(made.ravel().astype(int)) >= 0)
        assert abs(float(made.mean()) - 120) < 0.1 * 255 + 0.1 * 120 + 1


def test_none_is_the_identity(fold: Fold, configure: Configure) -> None:
    images = augmented_images(configure("augment=none"), fold)
    assert images.augmentation is None
    plain = CellImages(fold.cells).gather(fold.split.train, epoch=None)
    assert np.array_equal(images.gather(fold.split.train, epoch=0), plain)


def test_the_configured_augmentation_has_the_runs_seed(fold: Fold, configure: Configure) -> None:
    one, same, other = (
        augmented_images(configure(f"seed={seed}"), fold).gather(fold.split.train[:4], epoch=0)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same) and not np.array_equal(one, other)
