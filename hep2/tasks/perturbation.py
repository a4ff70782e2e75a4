"""What a microscope may do to a cell's image: perturbations of intensity, focus and noise; a pose.

All of it is batched tensor arithmetic on
the images' device, and every number is a function of (seed, epoch, cell, view) alone: no generator
has a state, so that a cell's perturbation depends on no other cell of its batch, and a resumed run
draws what an undisturbed one draws.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from hep2.data.augment import Draws, augment_batch
from hep2.data.views import ORIENTATIONS

# Ranges as measured to serve denoising of these cells; intensities in [0, 1], lengths in pixels.
GAMMA = 0.6  # exponent exp(u), u uniform within this of 0
BLURS = (0.0, 0.0, 0.7, 1.0, 1.5, 2.0)  # standard deviations, one of which is drawn
GAIN = (0.6, 1.2)
OFFSET = 0.2
NOISE = 0.12  # the largest standard deviation of white noise
RADIUS = 6  # of the blur's kernel: three of the largest standard deviations

_DRAWS = 5  # numbers a cell, beside its noise


def perturbed(image: Tensor, keys: Tensor) -> Tensor:
    """Other gamma, focus, gain, offset and noise for every image.

    Args:
        image: intensities in [0, 1], shape (B, 1, H, W).
        keys: one whole number a cell, shape (B,): `keys_of`.

    Returns:
        Shape (B, 1, H, W), not clipped.
    """
    drawn = uniform(keys, _DRAWS + image[0].numel())  # (B, draws and pixels)
    gamma, focus, gain, offset, noise = (u.view(-1, 1, 1, 1) for u in drawn.T[:_DRAWS])
    sharp = image.clamp(min=1e-6) ** ((2 * gamma - 1) * GAMMA).exp()
    drawn_blur = (focus.flatten() * len(BLURS)).long()
    blurred: Tensor = blur(sharp, _blurs(image.device)[drawn_blur])
    low, high = GAIN
    normal = 2**0.5 * torch.erfinv(2 * drawn[:, _DRAWS:].view_as(image) - 1)
    seen: Tensor = blurred * (low + (high - low) * gain) + OFFSET * offset + NOISE * noise * normal
    return seen


def posed(image: Tensor, keys: Tensor, rotate: float, scale: float, translate: float) -> Tensor:
    """Every image in another pose: one of eight orientations, turned, scaled, moved.

    Args:
        image: in [0, 1], shape (B, 1, H, W), as the result.
        keys: one whole number a cell, shape (B,): `keys_of`.
        rotate: largest rotation, degrees.
        scale: largest relative change of size.
        translate: largest shift either way, as a share of the side.
    """
    drawn = uniform(keys, 5)
    orientation, either_way = (ORIENTATIONS * drawn[:, 0]).floor(), 2 * drawn[:, 1:] - 1
    ranges = (rotate, scale, translate, translate)
    angle, size, across, down = (u * most for u, most in zip(either_way.T, ranges, strict=True))
    gain, shift = torch.ones_like(angle), torch.zeros_like(angle)
    draws = Draws(orientation, angle, gain, shift, 1 + size, across, down)
    return augment_batch(image, torch.stack(list(draws), dim=1))


@lru_cache
def _blurs(device: torch.device) -> Tensor:
    """`BLURS` on a device, copied there once: a GPU waits for every copy."""
    return torch.tensor(BLURS, device=device)


def blur(image: Tensor, deviations: Tensor) -> Tensor:
    """Blur every image by a Gaussian of its own; 0 leaves it as it is.

    Shape:
        (B, 1, H, W) and (B,), pixels -> (B, 1, H, W)
    """
    place = torch.arange(-RADIUS, RADIUS + 1, device=image.device, dtype=image.dtype)
    kernels = torch.exp(-0.5 * (place / deviations.clamp(min=1e-3)[:, None]) ** 2)
    kernels = (kernels / kernels.sum(dim=1, keepdim=True))[:, None]  # (B, 1, 2 * RADIUS + 1)
    count = len(image)
    padded = F.pad(image, [RADIUS] * 4, mode="reflect").transpose(0, 1)  # (1, B, ...)
    across = F.conv2d(padded, kernels[:, :, None], groups=count)
    return F.conv2d(across, kernels[..., None], groups=count).transpose(0, 1)


def keys_of(cells: Tensor, seed: int, epoch: int, view: int = 0) -> Tensor:
    """What the numbers of each cell are drawn from.

    Args:
        cells: positions in the data set, shape (B,), int64.
        seed: the run's.
        epoch: from 0.
        view: which of several perturbations of one cell.
    """
    key = cells.new_full((), seed, dtype=torch.int64)  # no copy, for which a GPU would wait
    for part in (epoch, view):
        key = _mixed(key + _WEYL) + part
    return _mixed(_mixed(key + _WEYL) + cells)


def uniform(keys: Tensor, count: int) -> Tensor:
    """Numbers in (0, 1), the same on every device: splitmix64 as a counter-based generator.

    Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014. 23 bits are
    kept, so that neither end is ever rounded to.

    Shape:
        (B,), int64 -> (B, count), float32
    """
    steps = torch.arange(1, count + 1, device=keys.device) * _WEYL
    bits = _shifted(_mixed(keys[:, None] + steps), 41)
    return (bits.float() + 0.5) * 2.0**-23


_WEYL = 0x9E3779B97F4A7C15 - 2**64  # as int64; torch's whole numbers wrap around as C's do
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def _mixed(bits: Tensor) -> Tensor:
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Shifted right without the sign, which torch would copy."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
