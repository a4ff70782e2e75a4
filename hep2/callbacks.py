"""What happens beside a training: seeds of its epochs, checkpoints, pictures."""

import math
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from numpy.typing import NDArray
from torch import Tensor

from hep2.checkpoint_files import CheckpointFiles, keep_previous, same_file
from hep2.rundir import RunDir
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


class Checkpoints(Checkpoint):
    """`last.ckpt` on the ends of epochs; `best.ckpt` where `monitor` was lowest, or greatest.

    Lightning's own writes no `last.ckpt` after an epoch that was not the best, and forgets the
    best of a run whose directory was moved.

    Both files are written after the last epoch, and where `every` seconds have passed since they
    were. A run that dies repeats the epochs since then, to the same numbers.

    Args:
        folder: the run directory.
        files: the trainer's way of writing checkpoints.
        monitor: a logged figure, or None: `best.ckpt` is then the last epoch's too.
        greatest: whether a greater figure is better.
        every: seconds of training that a sudden death may cost beside the epoch under way.
    """

    def __init__(
        self,
        folder: Path,
        files: CheckpointFiles,
        monitor: str | None,
        greatest: bool = False,
        every: float = 0.0,
    ) -> None:
        self.run = RunDir(folder)
        self.files = files
        self.monitor = monitor
        self.sign = -1 if greatest else 1
        self.every = every
        self.lowest: float | None = None
        self.written = time.monotonic()
        self.behind = False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"lowest": self.lowest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.lowest = state_dict["lowest"]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the best, and write when it is time; validation has been before."""
        # A figure is averaged over the ranks when it is first read. A progress bar reads it, on
        # rank 0 alone; the others must do so too before all wait for each other.
        _ = trainer.callback_metrics
        best = self._is_best(trainer)
        if best:
            trainer.save_checkpoint(self.run.best)
        ending = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        late = time.monotonic() - self.written >= self.every
        self.behind = not trainer.strategy.broadcast(ending or late)
        if not self.behind:
            self._write(trainer, best)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A training that was ended by steps or by the clock is kept as well."""
        if self.behind:
            self._write(trainer, best=False)

    def _write(self, trainer: L.Trainer, best: bool) -> None:
        # `last` comes last: whenever the process dies, no epoch behind it is counted as the best.
        if not best:
            trainer.save_checkpoint(self.run.last)
        if trainer.is_global_zero:
            keep_previous(self.run)
            self.files.write()
            if best:
                same_file(self.run.best, self.run.last)
        self.written = time.monotonic()

    def _is_best(self, trainer: L.Trainer) -> bool:
        if self.monitor is None:
            return True
        figure = self.sign * float(trainer.callback_metrics[self.monitor])
        figure = math.inf if math.isnan(figure) else figure
        if self.lowest is not None and figure >= self.lowest:
            return False
        self.lowest = figure
        return True


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
