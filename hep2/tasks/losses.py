"""Reconstruction losses: the L(x, z) of the paper's equation 3."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from hep2.errors import HEp2Error


def ssim_loss(reconstruction: Tensor, image: Tensor) -> Tensor:
    """1 - SSIM (Wang et al. 2004) of images in [0, 1]: 0 for equal images, at most 2.

    Shape:
        two of (B, 1, H, W) -> ()
    """
    similarity = structural_similarity_index_measure(reconstruction, image, data_range=1.0)
    assert isinstance(similarity, Tensor)  # a tuple only when the full map is asked for
    return 1 - similarity


# All are means over pixels and cells, so that a learning rate does not hang on the image's size.
# "mse" is the paper's squared Euclidean distance divided by the number of pixels.
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "ssim": ssim_loss,
}


def reconstruction_loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a name.

    Raises:
        HEp2Error: unknown name.
    """
    if name not in LOSSES:
        raise HEp2Error(f"stage.loss={name} is unknown: choose one of {', '.join(LOSSES)}")
    return LOSSES[name]
