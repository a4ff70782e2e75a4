"""Views of cells: what a network is shown of an image."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from hep2.errors import HEp2Error

# Sobel's kernel, scaled so that a step from 0 to 1 has the gradient 1.
_DOWN = torch.tensor([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]]) / 4
_SOBEL = torch.stack([_DOWN, _DOWN.T])[:, None]  # (2, 1, 3, 3)


def gradient_magnitude(image: Tensor) -> Tensor:
    """Magnitude of Sobel's gradient over sqrt(2), so that it lies in [0, 1].

    The same as `skimage.filters.sobel`; borders are continued by their last pixel.

    Shape:
        (B, 1, H, W), in [0, 1] -> (B, 1, H, W)
    """
    slopes = F.conv2d(
        F.pad(image, (1, 1, 1, 1), mode="replicate"), _SOBEL.to(image)
    )  # (B, 2, H, W)
    return slopes.square().mean(dim=1, keepdim=True).sqrt()


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "intensity": lambda image: image,
    "gradient": gradient_magnitude,
}


def view_of(name: str) -> Callable[[Tensor], Tensor]:
    """The view of a name.

    Raises:
        HEp2Error: unknown name.
    """
    if name not in VIEWS:
        raise HEp2Error(f"stage.view={name} is unknown: choose one of {', '.join(VIEWS)}")
    return VIEWS[name]
