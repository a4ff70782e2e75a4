"""What is done during a training: seeds of its epochs, a stop on NaN, pictures, a probe."""

import math
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import FrameType
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch import Tensor

from hep2.data.cells import spread
from hep2.data.inputs import in_batches
from hep2.errors import HEp2Error, check_types
from hep2.metrics import confusion_counts, mca
from hep2.tasks.reconstruction import Reconstruction
from hep2.trackers.loggers import log_images


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


class OwnSignals(Callback):
    """Keeps the handler of SIGTERM that stands when the trainer is made (`hep2.cli`).

    Lightning's own goes on to the end of a batch, asks the other ranks in the middle of whatever
    they are doing, and ends in exit code 0.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lightning has put its own there by now; at the end it puts back what it found."""
        before, launcher = self.handler, trainer.strategy.launcher
        if not callable(before) or threading.current_thread() is not threading.main_thread():
            return

        def handler(number: int, frame: FrameType | None) -> None:
            if launcher is not None:
                # Or the other ranks, and the first, which has started them, would call it an error.
                launcher.kill(number)
                if trainer.local_rank:
                    os.kill(os.getppid(), number)
            before(number, frame)

        signal.signal(signal.SIGTERM, handler)


class EveryEpochs(Callback, ABC):
    """Looks at an autoencoder every few epochs and after the last, on the first process alone.

    Stages without reconstructions are passed over. At most `cells` of a part are looked at.
    """

    def __init__(self, every: int, cells: int) -> None:
        self.every, self.cells = every, cells
        settings = {"every": every, "cells": cells}
        check_types(f"{type(self).__name__}: ", EveryEpochs, settings, least=1)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look when the epoch has come; the other processes do not wait for it."""
        epoch = trainer.current_epoch + 1
        due = epoch % self.every == 0 or epoch == trainer.max_epochs
        if due and trainer.is_global_zero and isinstance(pl_module, Reconstruction):
            training = pl_module.training
            self.look(trainer, pl_module.eval())
            pl_module.train(training)

    @abstractmethod
    def look(self, trainer: L.Trainer, pl_module: Reconstruction) -> None:
        """What a subclass does, with the module in `eval`."""

    def _some(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cells spread evenly over a part, always the same ones."""
        return cells[spread(len(cells), self.cells)]


class ReconstructionPictures(EveryEpochs):
    """Logs input, reconstruction and error of a few cells, side by side.

    The cells come from validation, or from training in a fold without validation cells; they are
    spread over the patterns' specimens and stay the same for the whole run.
    """

    def __init__(self, every: int = 5, cells: int = 8) -> None:
        super().__init__(every, cells)

    def look(self, trainer: L.Trainer, pl_module: Reconstruction) -> None:
        """Draw three rows of cells: inputs, reconstructions, four times the absolute error."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        cells = self._some(data.split.val if len(data.split.val) else data.split.train)
        images = data.batches.inputs.gather(cells, epoch=None).to(pl_module.device)
        with torch.inference_mode():
            shown = [pl_module.displayed(part) for part in (images, pl_module(images))]
        error = (4 * (shown[0] - shown[1]).abs()).clamp(max=1)
        rows = [torch.cat(list(row[:, 0]), dim=1) for row in (*shown, error)]
        picture = (torch.cat(rows).float().cpu() * 255).round().to(torch.uint8).numpy()
        caption = f"epoch {trainer.current_epoch + 1}: input, reconstruction, error x 4"
        log_images(trainer.loggers, "reconstructions", [picture], [caption], trainer.global_step)


class NotFinite(HEp2Error):
    """A loss or a weight is NaN or infinite."""

    def __init__(self, what: str) -> None:
        advice = "lower stage.optimizer.lr, or set trainer.gradient_clip_val=1"
        super().__init__(f"{what}; the last checkpoint is kept. Look at these images, {advice}")


class TerminateOnNaN(Callback):
    """Stops a training whose loss or weights are NaN or infinite; no checkpoint of them is kept.

    On a GPU the loss of a step is looked at when the next step has been handed over, so that the
    device never waits; on a CPU at once. `ids` are the cells' in the order of the batches' "index".
    """

    def __init__(self, ids: NDArray[np.str_]) -> None:
        self.ids = ids
        self.waiting: _Step | None = None

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
        before, self.waiting = self.waiting, _Step(loss, trainer.global_step, batch["index"])
        self._check(trainer, before if loss.is_cuda else self.waiting)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the last loss and at the weights; checkpoints are written after this."""
        self._check(trainer, self.waiting)
        self.waiting = None
        bad = [name for name, value in pl_module.state_dict().items() if not _finite(value)]
        if bad:
            epoch, names = trainer.current_epoch + 1, ", ".join(bad[:3])
            raise NotFinite(f"after epoch {epoch} weights are NaN or infinite ({names})")

    def _check(self, trainer: L.Trainer, step: "_Step | None") -> None:
        if step is None or math.isfinite(loss := step.loss()):
            return
        names = [str(self.ids[cell]) for cell in step.cells.tolist()]
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        where = f"epoch {trainer.current_epoch + 1}, step {step.number}"
        raise NotFinite(
            f"the loss is {loss} in {where}, on the cells {', '.join(names[:10])}{more}"
        )


class _Step:
    """A step's loss, on its way from the device, with the step's number and cells."""

    def __init__(self, loss: Tensor, number: int, cells: Tensor) -> None:
        self.number, self.cells = number, cells
        self._loss = loss.detach()
        self._arrived: Any = None
        if loss.is_cuda:
            self._loss = torch.empty((), dtype=loss.dtype, pin_memory=True)
            self._loss.copy_(loss.detach(), non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def loss(self) -> float:
        """Wait for the loss."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return float(self._loss)


def _finite(value: Tensor) -> bool:
    # The extremes tell, and need no memory for an answer to each value.
    if not value.is_floating_point() or not value.numel():
        return True
    return bool(torch.isfinite(torch.stack(value.aminmax())).all())


PENALTY = 0.1  # of the ridge, per feature; standardised features, never tuned


class LinearProbe(EveryEpochs):
    """Logs `val/<protocol>/probe_mca`: a ridge on the latents, trained on cells of training."""

    def __init__(self, every: int = 5, cells: int = 256) -> None:
        super().__init__(every, cells)

    def look(self, trainer: L.Trainer, pl_module: Reconstruction) -> None:
        """Probe, where there are validation cells."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not len(data.split.val):
            return
        train, val = (self._some(part) for part in (data.split.train, data.split.val))
        labels = data.batches.labels.numpy()
        batches = (
            in_batches(
                data.batches.inputs, part, lambda x: pl_module.encoder(x.to(pl_module.device))
            )
            for part in (train, val)
        )
        latents = [torch.cat([z.cpu() for z in part]).double().numpy() for part in batches]
        if not all(np.isfinite(part).all() for part in latents):
            return  # what follows from that is for TerminateOnNaN to say
        outputs = ridge_outputs(latents[0], labels[train], latents[1])
        confusion = confusion_counts(labels[val], outputs, int(labels.max()) + 1)
        leaky = "-leaky" if data.split.leaky else ""
        name = f"val/{pl_module.hparams['provenance']['protocol']}{leaky}/probe_mca"
        metrics = {name: float(mca(confusion)), "epoch": float(trainer.current_epoch)}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, trainer.global_step)


def ridge_outputs(
    train: NDArray[np.float64], labels: NDArray[np.int64], other: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Class indices of other cells by ridge regression on one target a class.

    Shape:
        features (N, D), class indices (N,), features of the other cells (M, D) -> (M,)
    """
    from sklearn.linear_model import RidgeClassifier

    mean, spread = train.mean(axis=0), train.std(axis=0, ddof=1)
    spread = np.where(spread > 0, spread, 1)
    ridge = RidgeClassifier(alpha=PENALTY * train.shape[1]).fit((train - mean) / spread, labels)
    return np.asarray(ridge.predict((other - mean) / spread), dtype=np.int64)
