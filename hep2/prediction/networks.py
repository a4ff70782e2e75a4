"""The networks of one run or several, put together to name the patterns of other cells."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hep2.data.views import view_of
from hep2.features.cache import turned


class Member(nn.Module):
    """The networks of one run.

    Args:
        encoder: gives latents.
        head: names patterns.
        decoder: of the autoencoder that has this encoder; None where it is not known.
        limit: the 99th percentile of the autoencoder's error on cells it had not learned from.
        view: of the cells that the networks see, a name of `hep2.data.views`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        decoder: nn.Module | None,
        limit: float,
        view: str = "intensity",
    ) -> None:
        super().__init__()
        self.view = view_of(view)
        self.encoder, self.head, self.decoder, self.limit = encoder, head, decoder, limit

    def forward(self, image: Tensor, orientations: int) -> tuple[Tensor, Tensor]:
        """Name cells.

        Args:
            image: shape (B, 1, H, W), in [0, 1].
            orientations: over how many flips and quarter turns probabilities are averaged, 1 to 8.

        Returns:
            Probabilities, shape (B, classes), float64; novelty, the reconstruction error over its
            limit, shape (B,), NaN where no autoencoder is known.
        """
        seen = self.view(image)
        latent = self.encoder(seen)
        total = self.head(latent).double().softmax(dim=1)
        for turn in range(1, orientations):
            total = total + self.head(self.encoder(turned(seen, turn))).double().softmax(dim=1)
        if self.decoder is None:
            return total / orientations, torch.full_like(total[:, 0], torch.nan)
        error = (self.decoder(latent) - seen).double().square().mean(dim=(1, 2, 3))
        return total / orientations, error / self.limit


class Members(nn.Module):
    """One run or several: means of their probabilities and novelties."""

    def __init__(self, members: Iterable[Member]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, image: Tensor, orientations: int = 1) -> tuple[Tensor, Tensor]:
        """As of `Member`."""
        outcomes = [member(image, orientations) for member in self.members]
        probabilities, novelties = zip(*outcomes, strict=True)
        return torch.stack(probabilities).mean(dim=0), torch.stack(novelties).mean(dim=0)
