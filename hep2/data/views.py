"""What networks see of a cell, and how it lies; torch and numpy alone, as prediction needs it."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hep2.errors import HEp2Error, one_of, whole


def in_unit_range(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Pixels of 8 or 16 bits as a network gets them: from 0 to 1."""
    scaled = pixels.astype(np.float32)
    scaled *= 1 / int(np.iinfo(pixels.dtype).max)
    return scaled


# Sobel's kernel, scaled so that a step from 0 to 1 has the gradient 1.
_DOWN = torch.tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]]) / 4
_SOBEL = torch.stack([_DOWN, _DOWN.T])[:, None]  # (2, 1, 3, 3)


def gradient_magnitude(image: Tensor) -> Tensor:
    """Magnitude of Sobel's gradient over sqrt(2), so that it lies in [0, 1].

    The same as `skimage.filters.sobel`; borders are continued by their last pixel.

    Shape: (B, 1, H, W), in [0, 1] -> (B, 1, H, W)
    """
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    slopes = F.conv2d(padded, _SOBEL.to(image))  # (B, 2, H, W)
    return slopes.square().mean(dim=1, keepdim=True).sqrt()


FLAT = 0.02  # added to an image's standard deviation, or an empty one would be all noise


def standardised(image: Tensor) -> Tensor:
    """Each image by itself: mean 0, standard deviation near 1.

    Shape:
        (B, 1, H, W) -> (B, 1, H, W)
    """
    spread, mean = torch.std_mean(image, dim=(1, 2, 3), keepdim=True, correction=0)
    return (image - mean) / (spread + FLAT)


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "intensity": lambda image: image,
    "gradient": gradient_magnitude,
    "standardised": standardised,
}


def view_of(name: str) -> Callable[[Tensor], Tensor]:
    """The view of a name, or HEp2Error where it is unknown."""
    return one_of("stage.view", name, VIEWS)


ORIENTATIONS = 8  # flips and quarter turns of a square; their order is that of `oriented`

Images = TypeVar("Images", Tensor, NDArray[Any])


def oriented(image: Images, orientation: int) -> Images:
    """One of the eight flips and quarter turns of square images, (..., H, H); 0 changes nothing.

    From 4 on, columns are reversed first; then come `orientation % 4` turns counter-clockwise.
    """
    library: Any = torch if isinstance(image, Tensor) else np
    flipped = library.flip(image, (-1,)) if orientation >= 4 else image
    turned: Images = library.rot90(flipped, orientation % 4, (-2, -1))
    return turned


def check_orientations(orientations: int, key: str = "orientations") -> None:
    """Raise HEp2Error where there are not this many flips and quarter turns of a square."""
    if not whole(orientations, 1, ORIENTATIONS):
        raise HEp2Error(f"{key}={orientations} must be a number from 1 to {ORIENTATIONS}")
