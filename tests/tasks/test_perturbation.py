"""Perturbations of a cell: by the formulas, and by (seed, epoch, cell, view) alone."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from hep2.data.views import oriented, standardised
from hep2.tasks.perturbation import (
    BLURS,
    GAIN,
    GAMMA,
    NOISE,
    OFFSET,
    RADIUS,
    blur,
    keys_of,
    perturbed,
    posed,
    uniform,
)

CELLS = torch.arange(40)


def splitmix64(state: int, count: int) -> list[int]:
    """The reference: Steele, Lea and Flood 2014, in Python's whole numbers."""
    made, mask = [], 2**64 - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        bits = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & mask
        made.append(bits ^ (bits >> 31))
    return made


@pytest.mark.parametrize("key", [0, 1, -7, 2**62 + 12345])
def test_numbers_are_splitmix64_s(key: int) -> None:
    wanted = [((bits >> 41) + 0.5) / 2**23 for bits in splitmix64(key % 2**64, 9)]
    assert uniform(torch.tensor([key]), 9)[0].tolist() == wanted


def test_numbers_are_uniform_and_of_each_cell_view_epoch_and_seed() -> None:
    drawn = uniform(keys_of(torch.arange(2000), seed=3, epoch=5), 100)
    assert drawn.mean().item() == pytest.approx(0.5, abs=3 * 12**-0.5 / drawn.numel() ** 0.5)
    assert drawn.std().item() == pytest.approx(12**-0.5, abs=2e-3)
    assert drawn.min() > 0 and drawn.max() < 1
    assert torch.corrcoef(drawn.T[:8]).fill_diagonal_(0).abs().max() < 0.1
    others = [keys_of(CELLS, 4, 5), keys_of(CELLS, 3, 6), keys_of(CELLS, 3, 5, view=1)]
    every = torch.cat([keys_of(CELLS, 3, 5), *others])
    assert len(every.unique()) == len(every)


@pytest.mark.parametrize("deviation", BLURS)
def test_each_image_is_blurred_by_its_own_gaussian(deviation: float) -> None:
    image = torch.rand(3, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    found = blur(image, torch.tensor([1.0, deviation, 2.0]))[1, 0].numpy()
    wanted = image[1, 0].numpy()
    if deviation:
        wanted = gaussian_filter(wanted, deviation, mode="mirror", radius=RADIUS)
    assert np.abs(found - wanted).max() < 1e-6


def test_a_perturbation_is_gamma_focus_gain_offset_and_noise() -> None:
    image = torch.rand(len(CELLS), 1, 16, 16, generator=torch.Generator().manual_seed(0))
    keys = keys_of(CELLS, 0, 0)
    drawn = uniform(keys, 5 + 256).double().numpy()
    for cell, (gamma, focus, gain, offset, noise, *white) in enumerate(drawn):
        sharp = image[cell, 0].double().numpy() ** np.exp((2 * gamma - 1) * GAMMA)
        deviation = BLURS[int(focus * len(BLURS))]
        seen = (
            gaussian_filter(sharp, deviation, mode="mirror", radius=RADIUS) if deviation else sharp
        )
        normal = np.sqrt(2) * torch.erfinv(2 * torch.tensor(white) - 1).numpy().reshape(16, 16)
        wanted = (
            seen * (GAIN[0] + (GAIN[1] - GAIN[0]) * gain) + OFFSET * offset + NOISE * noise * normal
        )
        assert np.abs(perturbed(image, keys)[cell, 0].numpy() - wanted).max() < 1e-4


def test_a_cell_s_perturbation_depends_on_no_other_cell_of_its_batch() -> None:
    image, keys = torch.rand(len(CELLS), 1, 16, 16), keys_of(CELLS, 0, 2)
    whole = perturbed(image, keys)
    order = torch.randperm(len(CELLS))
    assert torch.allclose(perturbed(image[order], keys[order]), whole[order], atol=1e-6)
    assert torch.allclose(perturbed(image[7:8], keys[7:8]), whole[7:8], atol=1e-6)


def test_images_are_standardised_one_by_one() -> None:
    image = torch.rand(5, 1, 32, 32) * torch.tensor([1.0, 0.5, 0.1, 2.0, 0.0]).view(-1, 1, 1, 1)
    found = standardised(3 + image)
    assert found.mean(dim=(1, 2, 3)).abs().max() < 1e-4
    spread = image.std(dim=(1, 2, 3), correction=0)
    assert torch.allclose(
        found.std(dim=(1, 2, 3), correction=0), spread / (spread + 0.02), atol=1e-3
    )
    assert torch.isfinite(found).all() and found[4].abs().max() < 1e-3


def test_a_pose_is_its_cell_s_own_and_moves_no_brightness() -> None:
    pose = {"rotate": 180, "scale": 0.15, "translate": 0.05}
    image = torch.rand(5, 1, 16, 16)
    keys = keys_of(torch.tensor([3, 1, 4, 1, 5]), 0, 2)
    every = posed(image, keys, **pose)
    assert torch.allclose(every[2:4], posed(image[2:4], keys[2:4], **pose), atol=1e-6)
    assert not torch.allclose(every, image, atol=0.1)
    flat = torch.full((5, 1, 16, 16), 0.3)
    assert torch.allclose(posed(flat, keys, **pose), flat, atol=1e-6)
    still = posed(image, keys, rotate=0, scale=0, translate=0)
    turns = [torch.stack([oriented(one, k) for k in range(8)]) for one in image]
    for one, choices in zip(still, turns, strict=True):
        assert (one - choices).abs().amax(dim=(1, 2, 3)).min() < 1e-5
