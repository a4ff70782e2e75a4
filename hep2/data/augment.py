"""Augmentation that suits cells: a cell has no up, no left and no fixed brightness."""

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hep2.data.opencv import cv2
from hep2.data.views import ORIENTATIONS, oriented
from hep2.errors import check_number, check_types

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look on the network at import
import albucore
from albumentations.augmentations.geometric import functional as geometry

Floats = NDArray[np.float64]

# What the eighths of the draw mean; seeds give the images that they always gave.
DRAWN = np.array([0, 1, 2, 3, 6, 7, 4, 5])
_PLACES = torch.stack(torch.meshgrid(2 * [torch.arange(-1.0, 2.0)], indexing="xy"))  # (x, y)
# Where each orientation takes the value at (x, y) from, when both run from -1 to 1 over the image:
# SOURCES[k] @ (x, y). Its columns are where the values at (1, 0) and (0, 1) come from.
SOURCES = torch.stack([oriented(_PLACES, k)[:, [1, 2], [2, 1]] for k in range(ORIENTATIONS)])


class Draws(NamedTuple):
    """What is done to each of B cells, in this order; every array or tensor has shape (B,)."""

    orientation: Any  # of `oriented`
    angle: Any  # of the free rotation, in degrees, counter-clockwise
    gain: Any  # factor of the intensities
    shift: Any  # added to the intensities then, as a share of the full scale
    size: Any  # factor of the cell's size
    across: Any  # how far it is moved then, as a share of the side
    down: Any


@dataclass(frozen=True)
class Augmentation:
    """Random flips, quarter turns, rotation and mild changes of intensity.

    The draw is a function of (seed, epoch, cell) alone: worker processes, their number and the
    order of cells change nothing, and a resumed run sees what an undisturbed one sees. So we draw,
    and albumentations' functions are told what to do: its own pipeline repeats one stream in every
    worker, and takes eight times as long, most of it to seed itself and to draw.
    """

    flips: bool  # whether to draw one of the eight flips and quarter turns of a square
    rotate: float  # largest free rotation in degrees; what enters from outside is the reflection
    brightness: float  # largest shift of intensity, as a share of the full scale
    contrast: float  # largest relative change of contrast
    seed: int  # the run's
    cells: int  # how many the data set has
    scale: float = 0.0  # largest relative change of size
    translate: float = 0.0  # largest shift either way, as a share of the side

    def __post_init__(self) -> None:
        """Raise HEp2Error where a setting cannot be."""
        check_types("augment.", Augmentation, vars(self))
        for name in ("rotate", "brightness", "contrast"):
            check_number(f"augment.{name}", getattr(self, name))
        for name in ("scale", "translate"):
            check_number(f"augment.{name}", getattr(self, name), below=1)

    def draw(self, epoch: int, cells: NDArray[np.int64]) -> Draws:
        """Decide what is done to some cells, given by their positions in the data set: (B,)."""
        uniform = _uniform(self.seed, epoch, self.cells)[cells]  # (B, 7)
        either_way = 2 * uniform[:, 1:] - 1
        return Draws(
            orientation=DRAWN[(ORIENTATIONS * uniform[:, 0]).astype(np.int64) * self.flips],
            angle=self.rotate * either_way[:, 0],
            gain=1 + self.contrast * either_way[:, 1],
            shift=self.brightness * either_way[:, 2],
            size=1 + self.scale * either_way[:, 3],
            across=self.translate * either_way[:, 4],
            down=self.translate * either_way[:, 5],
        )

    def __call__(
        self, images: NDArray[np.generic], epoch: int, cells: NDArray[np.int64]
    ) -> NDArray[np.generic]:
        """Augment a batch, shape (B, H, H), uint8 or uint16, one image after the other."""
        draws = zip(*self.draw(epoch, cells), strict=True)
        return np.stack([self._one(*one) for one in zip(images, draws, strict=True)])

    def _one(self, image: NDArray[np.generic], draw: tuple[Any, ...]) -> NDArray[np.generic]:
        orientation, angle, gain, shift, size, *move = draw
        side = len(image)
        changed = np.ascontiguousarray(oriented(image, int(orientation)))
        if self.rotate or self.scale or self.translate:
            middle = ((side - 1) / 2, (side - 1) / 2)
            matrix = cv2.getRotationMatrix2D(middle, float(angle), float(size))
            matrix[:, 2] += np.array(move) * side
            changed = geometry.warp_affine_with_value_extension(
                changed, matrix, (side, side), cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101, 0
            )
        if self.brightness or self.contrast:
            full_scale = np.iinfo(image.dtype).max  # type: ignore[type-var]
            changed = albucore.multiply_add(changed, gain, shift * full_scale, inplace=False)
        return changed


@lru_cache(maxsize=1)
def _uniform(seed: int, epoch: int, cells: int) -> Floats:
    """In [0, 1), (cells, 7): for all cells at once, so that a draw does not depend on its batch.

    What came later has a stream of its own: the first four columns are those of earlier versions.
    """
    first = np.random.default_rng([seed, epoch]).random((cells, 4))
    return np.hstack([first, np.random.default_rng([seed, epoch, 1]).random((cells, 3))])


@lru_cache
def _sources(device: torch.device) -> Tensor:
    """`SOURCES` on a device, copied there once: a GPU waits for every copy."""
    return SOURCES.to(device)


def augment_batch(images: Tensor, draws: Tensor) -> Tensor:
    """Do to every image what was drawn for it, without a word to the host.

    One interpolation in float32, where the other way goes by 8 or 16 bits: results agree to
    rounding and to the interpolation's own precision (tests/data/test_augment_batch.py).

    Args:
        images: in [0, 1], shape (B, 1, H, H), as the result.
        draws: the columns of `Draws`, shape (B, 7).
    """
    orientation, angle, gain, shift, size, *move = draws.unbind(dim=1)
    cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
    back = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)  # where a pixel comes from
    sources = _sources(images.device)[orientation.long()] @ (back / size.view(-1, 1, 1))
    side = images.shape[-1]
    moved_by = torch.stack(move, dim=1)[..., None] * (2 * side / (side - 1))  # of -1 to 1
    grid = F.affine_grid(
        torch.cat([sources, -sources @ moved_by], dim=2), list(images.shape), align_corners=True
    )
    moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=True)
    return (moved * gain.view(-1, 1, 1, 1) + shift.view(-1, 1, 1, 1)).clamp(0, 1)
