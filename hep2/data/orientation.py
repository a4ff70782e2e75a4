"""The eight ways to lay a square image down."""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
