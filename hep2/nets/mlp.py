"""The multi-layer perceptron that classifies latents."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn


class MapMeans(nn.Module):
    """Means of the maps that a feature vector holds one after the other.

    Shape:
        (B, channels * places) -> (B, channels)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, features: Tensor) -> Tensor:
        """The mean of every map."""
        return features.view(features.shape[0], self.channels, -1).mean(dim=2)


class MLP(nn.Module):
    """The paper's head: 4096-250-50-classes, "The best results were obtained using" it.

    Without hidden layers it is a linear classifier. Inputs are standardised by a batch
    normalisation without learned parameters, as is usual for heads on frozen features (He et al.
    2022, Masked autoencoders, appendix A): latents of different encoders have scales that differ
    by orders of magnitude. Latents of one encoder are of one unit, and those that hardly vary are
    mostly noise: a mean and a spread that all share leave them small.

    Args:
        inputs: length of a feature vector.
        classes: number of patterns.
        widths: neurons of the hidden layers.
        dropout: probability that a hidden neuron is silenced in training.
        standardise: inputs to mean 0 and deviation 1: true, each of them; "together", all by one
            mean and one deviation; false, none.
        batch_norm: whether hidden layers are normalised batch by batch before their ReLU.
        channels: of the maps that a feature vector holds: their means are what is learned from.
            None: every value is.

    Shape:
        (B, inputs) -> (B, classes), logits
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        widths: Sequence[int] = (250, 50),
        dropout: float = 0.0,
        standardise: bool | str = True,
        batch_norm: bool = False,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if channels is not None:
            if channels < 1 or inputs % channels:
                raise TypeError(f"{inputs} values are no maps of channels={channels}")
            layers, inputs = [MapMeans(channels)], channels
        layers += _standardising(inputs, standardise)
        for before, after in itertools.pairwise((inputs, *widths)):
            layers.append(nn.Linear(before, after))
            layers += [nn.BatchNorm1d(after)] if batch_norm else []
            layers += [nn.ReLU(inplace=True), nn.Dropout(dropout)]
        layers.append(nn.Linear(widths[-1] if widths else inputs, classes))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of feature vectors."""
        logits: Tensor = self.layers(features)
        return logits


def _standardising(inputs: int, how: bool | str) -> list[nn.Module]:
    """Layers that keep the shape, (B, inputs)."""
    if how == "together":
        return [nn.Unflatten(1, (1, inputs)), nn.BatchNorm1d(1, affine=False), nn.Flatten()]
    if not isinstance(how, bool):
        raise TypeError(f"head.standardise={how} must be true, false or together")
    return [nn.BatchNorm1d(inputs, affine=False)] if how else []
