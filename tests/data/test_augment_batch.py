"""The two ways of augmenting a batch, and the draw that both obey."""

import numpy as np
import pytest
import torch
from albumentations.augmentations.geometric import functional as geometry
from numpy.typing import NDArray
from torch import Tensor

from hep2.data.augment import DRAWN, Augmentation, augment_batch
from hep2.data.cells import Cells
from hep2.data.datamodule import CellBatches, HEp2DataModule
from hep2.data.inputs import CellImages
from hep2.data.protocols import Split
from hep2.data.views import ORIENTATIONS, oriented

CELLS = 24
# What the eighths of the draw mean, by albumentations' names.
SQUARE = ("e", "r90", "r180", "r270", "v", "hvt", "h", "t")
LEVEL = 1 / 255  # one grey level of an 8-bit image


def waves(side: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth images without any symmetry, shape (CELLS, 1, side, side)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    images = np.zeros((CELLS, 1, side, side))
    for _ in range(4):
        fx, fy, phase = rng.uniform(0, 6, (3, CELLS, 1, 1))
        images[:, 0] += np.cos(fx * x + fy * y + phase)
    images -= images.min(axis=(2, 3), keepdims=True)
    return np.rint(200 * images / images.max(axis=(2, 3), keepdims=True) + 25).astype(np.uint8)


def cells_of(images: NDArray[np.uint8] | NDArray[np.uint16]) -> Cells:
    names = np.array([f"{i:02d}" for i in range(len(images))])
    labels = np.zeros(len(images), np.int64)
    return Cells(images, names, labels, names, names, ("a",), "test", "0" * 16)


def augmentation(seed: int = 0, **settings: float) -> Augmentation:
    every = {"flips": True, "rotate": 180.0, "brightness": 0.1, "contrast": 0.1} | settings
    return Augmentation(**every, seed=seed, cells=CELLS)  # type: ignore[arg-type]


def both_ways(images: NDArray[np.uint8] | NDArray[np.uint16], **settings: float) -> list[Tensor]:
    cells, positions = cells_of(images), np.arange(CELLS)[::-1].copy()
    one_by_one = CellImages(cells, augmentation(**settings)).gather(positions, epoch=3)
    late = CellImages(cells, augmentation(**settings), batched=True)
    at_once = augment_batch(late.gather(positions, 3), late.draws(positions, 3)["draws"])
    return [one_by_one, at_once]


@pytest.mark.parametrize("eighth", range(ORIENTATIONS))
def test_symmetries_agree_to_the_last_bit_of_interpolation(eighth: int) -> None:
    image = waves()[0, 0]
    expected = geometry.d4(image, SQUARE[eighth])
    assert np.array_equal(oriented(image, DRAWN[eighth]), expected)
    packed = torch.tensor([[DRAWN[eighth], 0, 1, 0, 1, 0, 0]], dtype=torch.float32)
    found = augment_batch(torch.from_numpy(image / 255).float()[None, None], packed)
    np.testing.assert_allclose(found[0, 0], expected / 255, atol=1e-4)


def test_ways_agree_on_the_same_draws() -> None:
    """To 2 grey levels: after the rotation 8 bits are rounded, after the intensities cut off."""
    one_by_one, at_once = both_ways(waves())
    assert (one_by_one - at_once).abs().max() < 2 * LEVEL
    assert (one_by_one - at_once).abs().mean() < 0.6 * LEVEL


@pytest.mark.parametrize("pose", [{"scale": 0.3}, {"translate": 0.1},
                                  {"scale": 0.15, "translate": 0.05}])  # fmt: skip
def test_ways_agree_on_size_and_place(pose: dict[str, float]) -> None:
    one_by_one, at_once = both_ways(waves().astype(np.uint16) * 257, **pose)
    inside = (..., slice(6, -6), slice(6, -6))  # the reflections of the two differ by a pixel
    assert (one_by_one - at_once)[inside].abs().max() < 0.5 * LEVEL
    still, _ = both_ways(waves().astype(np.uint16) * 257)
    assert (one_by_one - still).abs().mean() > 4 * LEVEL


def test_a_shift_moves_the_cell_by_its_share_of_the_side() -> None:
    image = np.zeros((1, 1, 32, 32), np.uint8)
    image[0, 0, 16, 16] = 255
    draws = torch.tensor([[0, 0, 1, 0, 1, 4 / 32, -2 / 32]], dtype=torch.float32)
    found = augment_batch(torch.from_numpy(image / 255).float(), draws)[0, 0]
    assert found[14, 20] > 0.99 and found.sum() == pytest.approx(1, abs=1e-3)


def test_ways_agree_on_16_bits() -> None:
    """To 0.3 grey levels; older OpenCV interpolates at 1/32 of a pixel, newer ones exactly."""
    one_by_one, at_once = both_ways(waves().astype(np.uint16) * 257)
    assert (one_by_one - at_once).abs().max() < 0.3 * LEVEL


def test_intensities_are_clipped_alike() -> None:
    one_by_one, at_once = both_ways(waves(), rotate=0, flips=False, brightness=0.9, contrast=0.9)
    assert float(at_once.min()) == 0.0 and float(at_once.max()) == 1.0
    assert (one_by_one - at_once).abs().max() < 1.01 * LEVEL


def test_a_draw_hangs_on_seed_epoch_and_cell_alone() -> None:
    whole = np.stack(augmentation().draw(2, np.arange(CELLS)), axis=1)
    some = np.array([17, 3, 3, 20])
    np.testing.assert_array_equal(np.stack(augmentation().draw(2, some), axis=1), whole[some])
    assert len(np.unique(whole, axis=0)) == CELLS
    for other in (augmentation(seed=1).draw(2, some), augmentation().draw(1, some)):
        assert not np.array_equal(np.stack(other, axis=1), whole[some])


def test_draws_stay_within_their_limits_and_fill_them() -> None:
    every = Augmentation(True, 30.0, 0.2, 0.4, 0, 20_000, scale=0.15, translate=0.05)
    draws = every.draw(0, np.arange(20_000))
    assert set(draws.orientation) == set(range(8))
    for values, middle, limit in (
        (draws.angle, 0, 30),
        (draws.gain, 1, 0.4),
        (draws.shift, 0, 0.2),
        (draws.size, 1, 0.15),
        (draws.across, 0, 0.05),
        (draws.down, 0, 0.05),
    ):
        assert np.abs(values - middle).max() <= limit
        assert np.abs(values - middle).max() > 0.99 * limit
        assert abs(values.mean() - middle) < 0.02 * limit


def test_what_is_switched_off_is_not_done() -> None:
    images = waves()
    positions = np.arange(CELLS)
    plain = CellImages(cells_of(images))
    idle = CellImages(
        cells_of(images), augmentation(flips=False, rotate=0, brightness=0, contrast=0)
    )
    assert torch.equal(idle.gather(positions, 0), plain.gather(positions, 0))
    assert torch.equal(
        CellImages(cells_of(images), augmentation()).gather(positions, None),
        plain.gather(positions, None),
    )


def test_the_data_module_augments_where_the_batch_says_so() -> None:
    cells, positions = cells_of(waves()), np.arange(CELLS)
    late = CellImages(cells, augmentation(), batched=True)
    split = Split(positions, positions, positions, leaky=False)
    data = HEp2DataModule(late, cells.labels, split, CELLS, seed=0)
    batch = CellBatches(late, cells.labels)[(5, positions)]
    expected = augment_batch(batch["image"], batch["draws"])
    done = data.on_after_batch_transfer(dict(batch), 0)
    assert torch.equal(done["image"], expected) and "draws" not in done
    evaluated = data.on_after_batch_transfer(CellBatches(late, cells.labels)[(None, positions)], 0)
    assert torch.equal(evaluated["image"], late.gather(positions, None))
