"""Stage 1: an autoencoder learns to reconstruct cell images. No label is read."""

from collections.abc import Callable
from typing import Any

import lightning as L
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.functional.image import structural_similarity_index_measure

from hep2.errors import one_of
from hep2.nets.architectures import DECODERS, ENCODERS, build
from hep2.tasks.optim import adamw


def ssim_loss(reconstruction: Tensor, image: Tensor) -> Tensor:
    """1 - SSIM (Wang et al. 2004) of images in [0, 1], (B, 1, H, W); 0 for equal, at most 2."""
    similarity = structural_similarity_index_measure(reconstruction, image, data_range=1.0)
    assert isinstance(similarity, Tensor)  # a tuple only when the full map is asked for
    return 1 - similarity


# All are means over pixels and cells, so that a learning rate does not depend on the image's size.
# "mse" is the paper's squared Euclidean distance divided by the number of pixels.
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "ssim": ssim_loss,
}


def reconstruction_loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of a name; HEp2Error where it is unknown."""
    return one_of("stage.loss", name, LOSSES)


class Reconstruction(L.LightningModule):
    """Encoder and decoder, trained to give back their input.

    A subclass that overrides `pair` learns something else, e.g. to take noise away.

    Args:
        architecture: name of the pair in the tables of `hep2.nets.architectures`.
        network: arguments of both networks, plain values.
        loss: "mse", "l1" or "ssim".
        optimizer: arguments of `hep2.tasks.optim.adamw` but for `parameters` and `steps`.
        provenance: what the weights were learned from: data key, split hash, protocol, fold, seed.
            Kept in the checkpoint, so that no other fold can use it by mistake.
        view: of the cells that the networks see, a name in `hep2.data.views.VIEWS`; kept, so that
            the encoder is fed with the same later.
    """

    perturbs = False  # true: training batches hold intensities, whatever the view

    def __init__(
        self,
        architecture: str,
        network: dict[str, Any],
        loss: str,
        optimizer: dict[str, Any],
        provenance: dict[str, str | int],
        view: str = "intensity",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.encoder = build(ENCODERS, architecture, **network)
        self.decoder = build(DECODERS, architecture, **network)
        self.loss = reconstruction_loss(loss)
        self.train_loss = MeanMetric(nan_strategy="disable")  # to look for NaN is to wait for a GPU
        self.val_loss = MeanMetric()

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct images, (B, 1, H, W) -> (B, 1, H, W)."""
        reconstruction: Tensor = self.decoder(self.encoder(image))
        return reconstruction

    def pair(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the networks are given in training, and what is wanted of them: here both the image.

        Both of shape (B, 1, H, W). Random numbers may be drawn: they are seeded at the start of
        every epoch. Validation and test compare an image as it is with its reconstruction.
        """
        return batch["image"], batch["image"]

    def displayed(self, image: Tensor) -> Tensor:
        """What the networks see, as intensities in [0, 1] for a picture; here they are that."""
        return image

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """The loss of one batch."""
        given, wanted = self.pair(batch)
        loss = self.loss(self(given), wanted)
        self.train_loss.update(loss.detach())  # all batches are of one size
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the mean loss; logging every step would cost a small batch some per cent."""
        self.log("train/loss", self.train_loss)

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """The same loss on cells of other specimens."""
        loss = self.loss(self(batch["image"]), batch["image"])
        # A metric object, not a logged number: exact when devices hold unequal numbers of cells.
        self.val_loss.update(loss, weight=len(batch["image"]))

    def on_validation_epoch_end(self) -> None:
        """Log the mean."""
        self.log("val/loss", self.val_loss, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW over all parameters."""
        steps = int(self.trainer.estimated_stepping_batches)
        return adamw(self.parameters(), steps, **self.hparams["optimizer"])
