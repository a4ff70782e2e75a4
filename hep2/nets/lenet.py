"""Convolutional networks of the classical form, trained with labels."""

from collections.abc import Sequence

from torch import Tensor, nn

from hep2.errors import HEp2Error, one_of


class LeNet(nn.Module):
    """Convolutions without padding, each followed by tanh and pooling; then one hidden layer.

    LeNet-7 (LeCun, Huang and Bottou 2004, the paper's [2]) is 8 maps of 5x5, average over 4x4, 24
    maps of 6x6, average over 3x3, 100 units that see the whole map, then the classes; from memory
    of that paper. Ours: one channel (theirs is stereo) and an input standardised over the training
    set; every map sees all maps below; averages without learned coefficients.

    Gao et al. (2017) is 6 maps of 7x7, 16 of 4x4, 32 of 3x3, each followed by max pooling, then 150
    units. Known are the kernels and maps of the first two layers and the max pooling over 2x2 of
    the first; the others follow from the published 78x78 input as far as we can tell.

    Args:
        image_size: side of the square input, in pixels.
        maps: channels of each convolution.
        kernels: side of each convolution's kernel.
        pools: side of the window that is pooled after each convolution.
        pooling: "average" or "max".
        hidden: units of the hidden layer, which are the latent.

    Shape:
        (B, 1, H, W) -> (B, hidden)

    Raises:
        HEp2Error: the image is too small for the layers, or the pooling unknown.
    """

    def __init__(
        self,
        image_size: int,
        maps: Sequence[int],
        kernels: Sequence[int],
        pools: Sequence[int],
        pooling: str,
        hidden: int,
    ) -> None:
        super().__init__()
        windows = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}
        window = one_of("model.network.pooling", pooling, windows)
        self.latent_size = hidden
        levels: list[nn.Module] = [nn.BatchNorm2d(1, affine=False)]
        channels, side = 1, image_size
        for width, kernel, pool in zip(maps, kernels, pools, strict=True):
            levels += [nn.Conv2d(channels, width, kernel), nn.Tanh(), window(pool)]
            channels, side = width, (side - kernel + 1) // pool
            if side < 1:
                raise HEp2Error(
                    f"data.image_size={image_size} is too small for model.network.kernels and pools"
                )
        levels += [nn.Flatten(), nn.Linear(channels * side**2, hidden), nn.Tanh()]
        self.levels = nn.Sequential(*levels)

    def forward(self, image: Tensor) -> Tensor:
        """The hidden units' values."""
        latent: Tensor = self.levels(image)
        return latent
