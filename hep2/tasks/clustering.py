"""Strictly unsupervised: an autoencoder whose latents gather around learned cluster centres."""

from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import MeanMetric

from hep2.data.inputs import CellImages, in_batches
from hep2.nets.architectures import DECODERS, ENCODERS, build
from hep2.tasks.optim import adamw
from hep2.tasks.reconstruction import reconstruction_loss


class Clustering(L.LightningModule):
    """Encoder, decoder and an embedded clustering layer.

    The layer is that of Deep Embedded Clustering (Xie, Girshick and Farhadi 2016), kept together
    with the reconstruction as in DCEC (Guo et al. 2017); the authors' own (Sensors 20(9), 2020,
    2717) is known to us by name only. Centres start from k-means. A cell's soft assignment q is
    Student's t of its distance to each centre; the targets p, which sharpen q, are computed at the
    start of every epoch from the training cells as they are, while training sees them augmented
    (Guo et al. 2018). Ours: distances are measured in units of their mean at the start, because
    latents of thousands of values are so far from all centres that t is nearly flat there.

    Arguments that `Reconstruction` lacks: `clusters`, how many centres, and `clustering_weight`, of
    the clustering loss KL(p || q) beside the reconstruction.
    """

    scale: Tensor

    def __init__(
        self,
        architecture: str,
        network: dict[str, Any],
        clusters: int,
        loss: str,
        clustering_weight: float,
        optimizer: dict[str, Any],
        provenance: dict[str, str | int],
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.encoder = build(ENCODERS, architecture, **network)
        self.decoder = build(DECODERS, architecture, **network)
        self.centres = nn.Parameter(torch.zeros(clusters, self.encoder.latent_size))
        self.register_buffer("scale", torch.ones(()))
        self.loss = reconstruction_loss(loss)
        self.val_loss = MeanMetric()
        self.targets = torch.empty(0)

    def start(self, inputs: CellImages, cells: NDArray[np.int64], seed: int) -> None:
        """Put the centres where k-means finds clusters of the training cells' latents."""
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        latents = self._of_cells(self.encoder, inputs, cells).cpu().numpy()
        # One thread: sums of several threads come in any order, and the same must come out.
        with threadpool_limits(1):
            found = KMeans(len(self.centres), n_init=10, random_state=seed).fit(latents)
        self.centres.data.copy_(torch.from_numpy(found.cluster_centers_))
        self.scale.fill_(max(found.inertia_ / len(latents), 1e-12))

    def assign(self, latent: Tensor) -> Tensor:
        """Soft assignments (Xie et al. 2016, equation 1), (B, clusters), rows sum to 1."""
        closeness = 1 / (1 + torch.cdist(latent, self.centres).square() / self.scale)
        return closeness / closeness.sum(dim=1, keepdim=True)

    def assignments(self, inputs: CellImages, cells: NDArray[np.int64]) -> Tensor:
        """Soft assignments of some cells as they are, in evaluation, without gradients."""
        return self._of_cells(lambda image: self.assign(self.encoder(image)), inputs, cells)

    def _of_cells(
        self, function: Callable[[Tensor], Tensor], inputs: CellImages, cells: NDArray[np.int64]
    ) -> Tensor:
        training = self.training
        self.eval()
        parts = list(in_batches(inputs, cells, lambda image: function(image.to(self.device))))
        self.train(training)
        return torch.cat(parts)

    def on_train_epoch_start(self) -> None:
        """Compute the targets, one row a cell of the data set; rows of other cells stay empty."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        shares = self.assignments(data.batches.inputs, data.split.train)
        self.targets = torch.full((len(data.batches.labels), shares.shape[1]), torch.nan)
        self.targets = self.targets.to(self.device)
        self.targets[torch.from_numpy(data.split.train)] = sharpened(shares)

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Reconstruction and clustering loss of one batch."""
        latent = self.encoder(batch["image"])
        rebuilt = self.loss(self.decoder(latent), batch["image"])
        shares, targets = self.assign(latent), self.targets[batch["index"]]
        divergence = (targets * (targets.log() - shares.log())).sum(dim=1).mean()
        loss: Tensor = rebuilt + self.hparams["clustering_weight"] * divergence
        parts = {"train/loss": loss, "train/reconstruction": rebuilt, "train/kl": divergence}
        self.log_dict(parts, on_step=False, on_epoch=True, batch_size=len(latent))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Reconstruction loss on cells of other specimens; it chooses nothing."""
        loss = self.loss(self.decoder(self.encoder(batch["image"])), batch["image"])
        self.val_loss.update(loss, weight=len(batch["image"]))
        self.log("val/loss", self.val_loss, on_step=False, on_epoch=True, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW over all parameters."""
        steps = int(self.trainer.estimated_stepping_batches)
        return adamw(self.parameters(), steps, **self.hparams["optimizer"])


def sharpened(shares: Tensor) -> Tensor:
    """The target distribution, (N, clusters): p ~ q^2 / cluster size (Xie et al., equation 3)."""
    weights = shares.square() / shares.sum(dim=0)
    return weights / weights.sum(dim=1, keepdim=True)
