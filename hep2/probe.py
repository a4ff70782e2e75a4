"""An online linear probe: what a linear classifier could make of latents while they are learned.

The labels of the probe go into the probe alone; the autoencoder never sees them, nothing is chosen
by the figure, and test cells are not touched. It is a trend to watch, not a result.
"""

from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch import Tensor

from hep2.evaluation.metrics import confusion_counts, mca
from hep2.features.cache import BATCH
from hep2.tasks.reconstruction import Reconstruction

PENALTY = 0.1  # of the ridge, per feature; standardised features, never tuned


class LinearProbe(Callback):
    """Logs `val/<protocol>/probe_mca` every few epochs of stage 1; other stages get none.

    Args:
        every: epochs between probes; the last epoch has one as well.
        cells: training cells that the probe learns from, and validation cells at most.
    """

    def __init__(self, every: int = 5, cells: int = 256) -> None:
        self.every = every
        self.cells = cells

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Probe when the epoch has come; on the first process, the others do not wait for it."""
        epoch = trainer.current_epoch + 1
        if not isinstance(pl_module, Reconstruction) or not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        last = epoch == trainer.max_epochs
        if (epoch % self.every and not last) or not len(data.split.val):
            return
        train, val = (self._some(part) for part in (data.split.train, data.split.val))
        labels = data.batches.labels.numpy()
        outputs = ridge_outputs(
            _latents(pl_module, data, train), labels[train], _latents(pl_module, data, val)
        )
        confusion = confusion_counts(labels[val], outputs, int(labels.max()) + 1)
        leaky = "-leaky" if data.split.leaky else ""
        name = f"val/{pl_module.hparams['provenance']['protocol']}{leaky}/probe_mca"
        figures = {name: float(mca(confusion)), "epoch": float(trainer.current_epoch)}
        for logger in trainer.loggers:
            logger.log_metrics(figures, trainer.global_step)

    def _some(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cells spread evenly over a part, always the same ones."""
        count = min(self.cells, len(cells))
        return cells[np.linspace(0, len(cells) - 1, count).astype(np.int64)]


def ridge_outputs(train: Tensor, labels: NDArray[np.int64], other: Tensor) -> NDArray[np.int64]:
    """Class indices of other cells by ridge regression on one-hot targets.

    Solved in the cells' space (as many equations as training cells), for there are fewer of them
    than features: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2nd ed.,
    section 18.3.5.

    Args:
        train: features, shape (N, D).
        labels: class indices, shape (N,).
        other: features, shape (M, D).

    Returns:
        Shape (M,).
    """
    mean, spread = train.mean(dim=0), train.std(dim=0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    train, other = ((part - mean) / spread for part in (train, other))
    targets = torch.nn.functional.one_hot(torch.from_numpy(labels)).to(train)
    kernel = train @ train.T
    ridge = PENALTY * train.shape[1] * torch.eye(len(train), dtype=train.dtype)
    weights = torch.linalg.solve(kernel + ridge, targets - targets.mean(dim=0))
    scores = other @ (train.T @ weights) + targets.mean(dim=0)
    return np.asarray(scores.argmax(dim=1).numpy(), dtype=np.int64)


def _latents(task: Reconstruction, data: Any, cells: NDArray[np.int64]) -> Tensor:
    """Latents of cells as they are, shape (N, D), float64 on the CPU."""
    training = task.training
    task.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(cells), BATCH):
            image = data.batches.inputs.gather(cells[start : start + BATCH], epoch=None)
            parts.append(task.encoder(image.to(task.device)).double().cpu())
    task.train(training)
    return torch.cat(parts)
