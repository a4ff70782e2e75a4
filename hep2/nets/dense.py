"""The fully connected autoencoder: the paper's [4] and its equations 1 and 2."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from hep2.errors import HEp2Error


class DenseEncoder(nn.Module):
    """y = f(Wx + b) a layer, with f the logistic function.

    Depth and widths are ours: the paper gives neither; its [4] (Hinton and Salakhutdinov 2006) has
    784-1000-500-250-30 for digits.

    Args:
        image_size: side of the square input, in pixels.
        widths: neurons of each layer; the last ones are the latent.

    Shape:
        (B, 1, H, W) -> (B, widths[-1])

    Raises:
        HEp2Error: there is no layer.
    """

    def __init__(self, image_size: int, widths: Sequence[int]) -> None:
        super().__init__()
        if not widths:
            raise HEp2Error("model.network.widths is empty: give the width of at least one layer")
        self.latent_size = widths[-1]
        self.levels = _levels((image_size**2, *widths))

    def forward(self, image: Tensor) -> Tensor:
        """Encode a batch of images."""
        latent: Tensor = self.levels(image.flatten(1))
        return latent


class DenseDecoder(nn.Module):
    """z = f(W'y + b') a layer: the encoder's mirror, with weights of its own (W' is not W^T).

    Args:
        image_size: side of the square output, in pixels.
        widths: the encoder's widths, in the encoder's order.

    Shape:
        (B, widths[-1]) -> (B, 1, H, W), values in [0, 1]
    """

    def __init__(self, image_size: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.image_size = image_size
        self.levels = _levels((*reversed(widths), image_size**2))

    def forward(self, latent: Tensor) -> Tensor:
        """Reconstruct a batch of images from their latents."""
        pixels: Tensor = self.levels(latent)  # (B, H * W)
        return pixels.view(-1, 1, self.image_size, self.image_size)


def _levels(widths: Sequence[int]) -> nn.Sequential:
    """One (linear, logistic) pair a level, so that level i can be trained by itself."""
    return nn.Sequential(
        *(
            nn.Sequential(_linear(before, after), nn.Sigmoid())
            for before, after in itertools.pairwise(widths)
        )
    )


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """Glorot's initialisation (2010), times 4 for the logistic function, as in his tutorials."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight, gain=4.0)
    nn.init.zeros_(layer.bias)
    return layer
