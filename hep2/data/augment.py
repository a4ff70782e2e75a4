"""Augmentation that suits cells: a cell has no up, no left and no fixed brightness."""

import os
from functools import lru_cache
from typing import NamedTuple

import albucore
import numpy as np
import torch
from albumentations.augmentations.geometric import functional as geometry
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hep2.data.opencv import cv2

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look on the network at import

# The symmetries of a square, by albumentations' names.
SQUARE = ("e", "r90", "r180", "r270", "v", "hvt", "h", "t")

Floats = NDArray[np.float64]


class Draws(NamedTuple):
    """What is done to each of B cells; every array has shape (B,).

    Attributes:
        symmetry: of the square, 0 to 7: see `SQUARE`. Comes first.
        angle: of the free rotation, in degrees, counter-clockwise. Comes second.
        gain: factor of the intensities.
        shift: added to the intensities then, as a share of the full scale.
    """

    symmetry: NDArray[np.int64]
    angle: Floats
    gain: Floats
    shift: Floats


class Augmentation:
    """Random flips, quarter turns, rotation and mild changes of intensity.

    The draw is a function of (seed, epoch, cell) alone: worker processes, their number and the
    order of cells change nothing, and a resumed run sees what an undisturbed one sees. So we draw,
    and albumentations' functions are told what to do: its own pipeline repeats one stream in every
    worker, and takes eight times as long, most of it to seed itself and to draw.

    Args:
        flips: whether to draw one of the eight flips and quarter turns of a square.
        rotate: largest free rotation in degrees; what enters from outside is the reflection.
        brightness: largest shift of intensity, as a share of the full scale.
        contrast: largest relative change of contrast.
        seed: the run's seed.
        cells: how many cells the data set has.
    """

    def __init__(
        self,
        flips: bool,
        rotate: float,
        brightness: float,
        contrast: float,
        seed: int,
        cells: int,
    ) -> None:
        self.flips = flips
        self.rotate = rotate
        self.brightness = brightness
        self.contrast = contrast
        self.seed = seed
        self.cells = cells

    def draw(self, epoch: int, cells: NDArray[np.int64]) -> Draws:
        """Decide what is done to some cells.

        Args:
            epoch: counted from 0.
            cells: positions of the cells in the data set, shape (B,).
        """
        uniform = _uniform(self.seed, epoch, self.cells)[cells]  # (B, 4)
        either_way = 2 * uniform[:, 1:] - 1
        return Draws(
            symmetry=(len(SQUARE) * uniform[:, 0]).astype(np.int64) * self.flips,
            angle=self.rotate * either_way[:, 0],
            gain=1 + self.contrast * either_way[:, 1],
            shift=self.brightness * either_way[:, 2],
        )

    def __call__(
        self, images: NDArray[np.generic], epoch: int, cells: NDArray[np.int64]
    ) -> NDArray[np.generic]:
        """Augment a batch, one image after the other.

        Args:
            images: shape (B, H, H), uint8 or uint16.
            epoch: counted from 0.
            cells: positions of the cells in the data set, shape (B,).

        Returns:
            Images of the same shape and type.
        """
        draws = zip(*self.draw(epoch, cells), strict=True)
        return np.stack([self._one(*one) for one in zip(images, draws, strict=True)])

    def _one(
        self, image: NDArray[np.generic], draw: tuple[np.int64, np.float64, np.float64, np.float64]
    ) -> NDArray[np.generic]:
        symmetry, angle, gain, shift = draw
        side = len(image)
        changed: NDArray[np.generic] = geometry.d4(image, SQUARE[symmetry])
        if self.rotate:
            matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), float(angle), 1)
            changed = geometry.warp_affine_with_value_extension(
                changed, matrix, (side, side), cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101, 0
            )
        if self.brightness or self.contrast:
            full_scale = np.iinfo(image.dtype).max  # type: ignore[type-var]
            changed = albucore.multiply_add(changed, gain, shift * full_scale, inplace=False)
        return changed


@lru_cache(maxsize=1)
def _uniform(seed: int, epoch: int, cells: int) -> Floats:
    """Drawn for all cells at once, so that a cell's draw hangs on no other cell of its batch.

    Shape:
        (cells, 4), in [0, 1)
    """
    return np.random.default_rng([seed, epoch]).random((cells, 4))


def turned(image: Tensor, orientation: int) -> Tensor:
    """One of the eight flips and quarter turns of square images; 0 leaves them as they are.

    Shape:
        (B, 1, H, H) -> (B, 1, H, H)
    """
    turns, flip = orientation % 4, orientation >= 4
    return torch.rot90(image.flip(-1) if flip else image, turns, dims=(-2, -1))


# Where a symmetry of the square, in the order of `hep2.data.augment.SQUARE`, takes the value at
# (x, y) from, when both run from -1 to 1 over the image: SYMMETRIES[k] @ (x, y).
SYMMETRIES = torch.tensor(
    [
        [[1, 0], [0, 1]],  # e
        [[0, -1], [1, 0]],  # r90
        [[-1, 0], [0, -1]],  # r180
        [[0, 1], [-1, 0]],  # r270
        [[1, 0], [0, -1]],  # v
        [[0, -1], [-1, 0]],  # hvt
        [[-1, 0], [0, 1]],  # h
        [[0, 1], [1, 0]],  # t
    ],
    dtype=torch.float32,
)


def augment_batch(images: Tensor, draws: Tensor) -> Tensor:
    """Do to every image what was drawn for it, without a word to the host.

    One interpolation in float32, where the other way goes by 8 or 16 bits: results agree to
    rounding and to the interpolation's own precision, see tests/test_augment.py.

    Args:
        images: in [0, 1], shape (B, 1, H, H).
        draws: symmetry, angle, gain and shift as `hep2.data.augment.Draws` has them, shape (B, 4).

    Returns:
        Images in [0, 1], shape (B, 1, H, H).
    """
    symmetry, angle, gain, shift = draws.unbind(dim=1)
    cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
    back = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)  # where a pixel comes from
    turned = SYMMETRIES.to(images.device)[symmetry.long()] @ back
    grid = F.affine_grid(F.pad(turned, (0, 1)), list(images.shape), align_corners=True)
    moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=True)
    return (moved * gain.view(-1, 1, 1, 1) + shift.view(-1, 1, 1, 1)).clamp(0, 1)
