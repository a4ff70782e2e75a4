"""Stage 2: a head learns to name the pattern from the latents of a frozen encoder.

The same class with `freeze=False` is the supervised network: encoder and head learn together; and
without an encoder it is a head on features that no network of ours made.
"""

from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from hep2.errors import check_number
from hep2.nets.architectures import encoder_and_head
from hep2.tasks.optim import adamw


class MeanClassAccuracy(Metric):
    """Mean of the recalls of the classes present in the targets.

    torchmetrics' own macro accuracy also counts, as 0, a class that is only ever predicted; folds
    without a class would look worse than they are.
    """

    full_state_update = False
    higher_is_better = True

    hits: Tensor
    cells: Tensor

    def __init__(self, classes: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.add_state("hits", torch.zeros(classes), dist_reduce_fx="sum")
        self.add_state("cells", torch.zeros(classes), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch: logits, (B, classes), and targets, (B,)."""
        right = (logits.argmax(dim=1) == target).to(self.hits.dtype)
        self.hits.index_add_(0, target, right)
        self.cells.index_add_(0, target, torch.ones_like(right))

    def compute(self) -> Tensor:
        """The mean over the classes seen so far; NaN before any cell."""
        present = self.cells > 0
        return (self.hits[present] / self.cells[present]).mean()


class Classification(L.LightningModule):
    """Encoder and head.

    Args:
        architecture: name of the encoder in the tables of `hep2.nets.architectures`; None for a
            head alone, which takes batches of features.
        network: the encoder's arguments, plain values; for a head alone {"latent_size": length of
            a feature vector}.
        head: the head's name and arguments: {"architecture": "mlp", "widths": [250, 50], ...}.
        classes: pattern names, in the order of the logits.
        freeze: whether the encoder stays exactly as it was loaded.
        optimizer: arguments of `hep2.tasks.optim.adamw` but for `parameters` and `steps`.
        class_weights: weight of each pattern in the loss, or None for equal ones.
        protocol: part of the metrics' names.
        provenance: as in `Reconstruction`.
        view: as in `Reconstruction`.
        orientations: over how many orientations features are averaged; kept for prediction.
        mixup: parameter of the Beta distribution that cells of a batch are mixed by (Zhang et al.,
            ICLR 2018); 0: none.
        label_smoothing: share of a target that is spread over all patterns (Szegedy et al. 2016).
    """

    def __init__(
        self,
        architecture: str | None,
        network: dict[str, Any],
        head: dict[str, Any],
        classes: list[str],
        freeze: bool,
        optimizer: dict[str, Any],
        class_weights: list[float] | None,
        protocol: str,
        provenance: dict[str, str | int],
        view: str = "intensity",
        orientations: int = 1,
        mixup: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        check_number("stage.mixup", mixup)
        check_number("stage.label_smoothing", label_smoothing, below=1)
        self.encoder: nn.Module | None
        self.head: nn.Module
        self.encoder, self.head = encoder_and_head(architecture, network, head, len(classes))
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float)
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights, persistent=False)
        self.train_loss = MeanMetric(nan_strategy="disable")  # to look for NaN is to wait for a GPU
        self.val_loss = MeanMetric()
        aca = MulticlassAccuracy(len(classes), average="micro")
        metrics: dict[str, Any] = {"aca": aca, "mca": MeanClassAccuracy(len(classes))}
        self.val_metrics = MetricCollection(metrics, prefix=f"val/{protocol}/")
        self.freeze_encoder = freeze  # Lightning has a method `freeze`
        if self.encoder is not None and freeze:
            self.encoder.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Classification":
        """Set the mode; a frozen encoder stays in evaluation, or its buffers would drift."""
        super().train(mode)
        if self.encoder is not None and self.freeze_encoder:
            self.encoder.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Logits, (B, classes), of images, (B, 1, H, W)."""
        assert self.encoder is not None, "a head alone takes features"
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            features = self.encoder(image)
        logits: Tensor = self.head(features)
        return logits

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits of a batch of images, or of features that were computed before."""
        known = batch.get("features")
        logits: Tensor = self(batch["image"]) if known is None else self.head(known)
        return logits

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """Cross-entropy of one batch."""
        labels = batch["label"]
        if alpha := self.hparams["mixup"]:
            batch, others, share = mixed(batch, alpha)
            logits = self.logits(batch)
            own, other = (self._cross_entropy(logits, of) for of in (labels, labels[others]))
            loss = share * own + (1 - share) * other
        else:
            loss = self._cross_entropy(self.logits(batch), labels)
        self.train_loss.update(loss.detach())  # all batches are of one size
        return loss

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        smoothing = self.hparams["label_smoothing"]
        return F.cross_entropy(logits, labels, self.class_weights, label_smoothing=smoothing)

    def on_train_epoch_end(self) -> None:
        """Log the mean loss; logging every step would cost a small batch some per cent."""
        self.log("train/loss", self.train_loss)

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Cross-entropy, ACA and MCA on cells of other specimens."""
        logits = self.logits(batch)
        self.val_loss.update(F.cross_entropy(logits, batch["label"]), weight=len(logits))
        self.val_metrics.update(logits, batch["label"])

    def on_validation_epoch_end(self) -> None:
        """Log loss, ACA and MCA."""
        self.log("val/loss", self.val_loss, prog_bar=True)
        self.log_dict(self.val_metrics, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW over what is not frozen."""
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        steps = int(self.trainer.estimated_stepping_batches)
        return adamw(learned, steps, **self.hparams["optimizer"])


def mixed(batch: dict[str, Tensor], alpha: float) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Each cell of a batch with a share of another one's image or features.

    Returns the batch, who was added to each cell, shape (B,), and a cell's own share, drawn from
    Beta(alpha, alpha), shape ().
    """
    key = "features" if "features" in batch else "image"
    values = batch[key]
    parameter = values.new_full((), alpha)  # neither copied nor checked: a GPU would wait
    share = torch.distributions.Beta(parameter, parameter, validate_args=False).sample()
    others = torch.randperm(len(values), device=values.device)
    return batch | {key: share * values + (1 - share) * values[others]}, others, share


def balanced_weights(labels: NDArray[np.int64], classes: int) -> list[float]:
    """Weights inverse to a pattern's frequency, mean 1 over cells; 0 for an absent pattern.

    The "balanced" heuristic of scikit-learn: cells / (classes present * cells of the class).
    """
    counts = torch.bincount(torch.as_tensor(labels), minlength=classes)
    present = int((counts > 0).sum())
    return [len(labels) / (present * int(count)) if count else 0.0 for count in counts]
