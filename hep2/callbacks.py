"""What happens beside a training: seeds of its epochs, checkpoints, pictures."""

from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch import Tensor

from hep2.data.inputs import CellImages, in_batches
from hep2.errors import HEp2Error
from hep2.metrics import confusion_counts, mca
from hep2.tasks.reconstruction import Reconstruction
from hep2.tracking import log_images


class EpochSeed(Callback):
    """Makes the random numbers of an epoch a function of (seed, epoch, device).

    Checkpoints fall on the ends of epochs; with this, a run that resumes from one draws the same
    dropout as an undisturbed run, and no generator's state needs to be kept.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed torch's generators."""
        entropy = (self.seed, trainer.current_epoch, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


class ReconstructionPictures(Callback):
    """Logs input, reconstruction and error of a few cells, side by side.

    The cells come from validation, or from training in a fold without validation cells; they are
    spread over the patterns' specimens and stay the same for the whole run. Stage 2 has no
    reconstructions and gets no pictures.

    Args:
        every: epochs between pictures; the last epoch has one as well.
        cells: how many.
    """

    def __init__(self, every: int = 5, cells: int = 8) -> None:
        self.every = every
        self.cells = cells

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the pictures when their epoch has come."""
        epoch = trainer.current_epoch + 1
        if not isinstance(pl_module, Reconstruction) or not trainer.is_global_zero:
            return
        if epoch % self.every and epoch != trainer.max_epochs:
            return
        images = self._images(trainer).to(pl_module.device)
        training = pl_module.training
        pl_module.eval()
        with torch.inference_mode():
            reconstructions = pl_module(images)
        pl_module.train(training)
        log_images(
            trainer.loggers,
            "reconstructions",
            [_strips(images, reconstructions)],
            [f"epoch {epoch}: input, reconstruction, error x 4"],
            trainer.global_step,
        )

    def _images(self, trainer: L.Trainer) -> Tensor:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        pool = data.split.val if len(data.split.val) else data.split.train
        chosen = pool[np.linspace(0, len(pool) - 1, min(self.cells, len(pool))).astype(np.int64)]
        images: Tensor = data.batches.inputs.gather(chosen, epoch=None)
        return images


def _strips(images: Tensor, reconstructions: Tensor) -> NDArray[np.uint8]:
    """Three rows of cells: inputs, reconstructions, four times the absolute error.

    Shape:
        two of (B, 1, H, W), in [0, 1] -> (3 * H, B * W), uint8
    """
    error = (4 * (images - reconstructions).abs()).clamp(max=1)
    rows = [torch.cat(list(row[:, 0]), dim=1) for row in (images, reconstructions, error)]
    picture = (torch.cat(rows).float().cpu() * 255).round()
    return picture.to(torch.uint8).numpy()


Step = tuple[Tensor, Any, int, Tensor]  # the loss, when it is there, the step, the batch's cells


class NotFinite(HEp2Error):
    """A loss or a weight is NaN or infinite."""


class FiniteLoss(Callback):
    """Stops a training whose loss or weights are NaN or infinite; no checkpoint of them is kept.

    On a GPU the loss of a step is looked at when the next step has been handed over, so that the
    device never waits; on a CPU at once.

    Args:
        ids: the cells' IDs, in the order of the batches' "index".
    """

    def __init__(self, ids: NDArray[np.str_]) -> None:
        self.ids = ids
        self.waiting: Step | None = None

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: dict[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Look at the loss."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if not isinstance(loss, Tensor):
            return
        ready, self.waiting = self.waiting, _noted(loss, trainer.global_step, batch["index"])
        self._check(trainer, ready if loss.is_cuda else self.waiting)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the last loss and at the weights; checkpoints are written after this."""
        self._check(trainer, self.waiting)
        self.waiting = None
        bad = [
            name
            for name, value in pl_module.state_dict().items()
            if value.is_floating_point() and not _finite(value)
        ]
        if bad:
            raise NotFinite(
                f"after epoch {trainer.current_epoch + 1} weights are NaN or infinite "
                f"({', '.join(bad[:3])}); {_REMEDY}"
            )

    def _check(self, trainer: L.Trainer, step: Step | None) -> None:
        if step is None:
            return
        loss, event, number, cells = step
        if event is not None:
            event.synchronize()
        if torch.isfinite(loss):
            return
        names = [str(self.ids[cell]) for cell in cells.tolist()]
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise NotFinite(
            f"the loss is {float(loss)} in epoch {trainer.current_epoch + 1}, step {number}, on "
            f"the cells {', '.join(names[:10])}{more}; {_REMEDY}"
        )


def _finite(value: Tensor) -> bool:
    """Whether all values are finite; their extremes tell, and need no memory for an answer each."""
    return not value.numel() or bool(torch.isfinite(torch.stack(value.aminmax())).all())


_REMEDY = (
    "the last checkpoint is kept. Look at these images, lower stage.optimizer.lr, or set "
    "trainer.gradient_clip_val=1"
)


def _noted(loss: Tensor, step: int, cells: Tensor) -> Step:
    loss = loss.detach()
    if not loss.is_cuda:
        return loss, None, step, cells
    copy = torch.empty((), dtype=loss.dtype, pin_memory=True)
    copy.copy_(loss, non_blocking=True)
    event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return copy, event, step, cells


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
        latents = [_latents(pl_module, data.batches.inputs, cells) for cells in (train, val)]
        if not all(np.isfinite(part).all() for part in latents):
            return  # what comes of that is for others to say
        outputs = ridge_outputs(latents[0], labels[train], latents[1])
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


def ridge_outputs(
    train: NDArray[np.float64], labels: NDArray[np.int64], other: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Class indices of other cells by ridge regression on one target a class.

    Args:
        train: features, shape (N, D).
        labels: class indices, shape (N,).
        other: features, shape (M, D).

    Returns:
        Shape (M,).
    """
    from sklearn.linear_model import RidgeClassifier

    mean, spread = train.mean(axis=0), train.std(axis=0, ddof=1)
    spread = np.where(spread > 0, spread, 1)
    ridge = RidgeClassifier(alpha=PENALTY * train.shape[1]).fit((train - mean) / spread, labels)
    return np.asarray(ridge.predict((other - mean) / spread), dtype=np.int64)


def _latents(
    task: Reconstruction, images: CellImages, cells: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Latents of cells as they are, shape (N, D)."""
    training = task.training
    task.eval()
    parts = in_batches(images, cells, lambda image: task.encoder(image.to(task.device)).cpu())
    latents = torch.cat(list(parts)).double().numpy()
    task.train(training)
    return latents
