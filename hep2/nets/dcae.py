"""The deep convolutional autoencoder (DCAE)."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from hep2.errors import HEp2Error


class Encoder(nn.Module):
    """Convolution and pooling, halving the image at every level, to one flat latent.

    The published text gives the latent's size (4,096) and that pooling layers do the
    down-sampling; widths, kernels and normalisation are ours.

    Args:
        image_size: side of the square input, in pixels; a multiple of 2 ** len(widths).
        widths: channels after each level.
        bounded: of the decoder alone, which takes the same arguments.

    Shape:
        (B, 1, H, W) -> (B, latent_size)
    """

    def __init__(self, image_size: int, widths: Sequence[int], bounded: bool = True) -> None:
        super().__init__()
        self.side = side_after(image_size, len(widths))
        self.latent_size = widths[-1] * self.side**2
        levels: list[nn.Module] = []
        for channels, width in itertools.pairwise((1, *widths)):
            # Pooling commutes with the increasing ReLU; before normalisation it saves three
            # quarters of that work at full resolution, where a CPU waits for memory.
            levels += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.MaxPool2d(2),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        self.levels = nn.Sequential(*levels)

    def maps(self, image: Tensor, level: int) -> Tensor:
        """Feature maps behind a level, from 1.

        Shape:
            (B, 1, H, W) -> (B, widths[level - 1], H / 2 ** level, W / 2 ** level)

        Raises:
            HEp2Error: there is no such level.
        """
        if not 1 <= level <= len(self.levels) // 4:
            raise HEp2Error(
                f"features.local.level={level}: the encoder has {len(self.levels) // 4}"
            )
        maps: Tensor = self.levels[: 4 * level](image)
        return maps

    def forward(self, image: Tensor) -> Tensor:
        """Encode a batch of images."""
        latent: Tensor = self.levels(image)  # (B, widths[-1], side, side)
        return latent.flatten(1)


class Decoder(nn.Module):
    """The encoder's mirror: transposed convolutions that double the image at every level.

    Args:
        image_size: side of the square output, in pixels.
        widths: the encoder's widths, in the encoder's order.
        bounded: whether the output is kept in [0, 1]; false for standardised images.

    Shape:
        (B, latent_size) -> (B, 1, H, W)
    """

    def __init__(self, image_size: int, widths: Sequence[int], bounded: bool = True) -> None:
        super().__init__()
        side = side_after(image_size, len(widths))
        self.shape = (widths[-1], side, side)
        outward = tuple(reversed(widths))
        levels: list[nn.Module] = []
        for channels, width in itertools.pairwise(outward):
            levels += [
                nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        # The paper's decoder ends in f as well (its equation 2); f = sigmoid keeps z in [0, 1].
        levels.append(nn.ConvTranspose2d(outward[-1], 1, 4, stride=2, padding=1))
        levels += [nn.Sigmoid()] if bounded else []
        self.levels = nn.Sequential(*levels)

    def forward(self, latent: Tensor) -> Tensor:
        """Reconstruct a batch of images from their latents."""
        image: Tensor = self.levels(latent.view(-1, *self.shape))
        return image


def side_after(image_size: int, levels: int) -> int:
    """Side of the feature map after `levels` halvings.

    Raises:
        HEp2Error: the image cannot be halved that often, or is not at all.
    """
    if not levels:
        raise HEp2Error("model.network.widths is empty: give the width of at least one level")
    side, rest = divmod(image_size, 1 << levels)
    if rest or not side:
        raise HEp2Error(
            f"data.image_size={image_size} cannot be halved {levels} times: "
            f"choose a multiple of {1 << levels}, or fewer model.network.widths"
        )
    return side
