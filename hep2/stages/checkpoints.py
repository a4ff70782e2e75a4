"""Checkpoints on disk: written whole or not at all, kept by two, read by the safe loader only."""

import io
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from hep2.errors import HEp2Error
from hep2.files import write_atomic
from hep2.nets.architectures import read_checkpoint
from hep2.rundir.directory import RunDir

log = logging.getLogger(__name__)


class CheckpointFiles(TorchCheckpointIO):
    """How Lightning writes and reads checkpoints here.

    Its own way goes through the system's folder for temporary files, which may lie on another disk
    (then the checkpoint is copied, and can be torn), and does not wait for the disk. Here a saved
    checkpoint stays in memory until `write`: a head's epoch takes less time than the disk.
    """

    def __init__(self) -> None:
        self.waiting: dict[Path, Any] = {}

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        """Keep a copy for `write`; it takes the place of an earlier one for the same file."""
        self.waiting[Path(path)] = apply_to_collection(
            checkpoint, Tensor, lambda tensor: tensor.detach().to("cpu", copy=True)
        )

    def write(self) -> None:
        """Write what was kept, in the order in which the files were first named, or HEp2Error."""
        for path, checkpoint in self.waiting.items():
            content = io.BytesIO()
            torch.save(checkpoint, content)
            write_atomic(path, content.getbuffer())
        self.waiting.clear()

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint as `read_checkpoint` does; whatever is asked for, it runs no code."""
        return read_checkpoint(Path(path))


def same_file(there: Path, name: Path) -> None:
    """Give a file a second name; writing it twice would take as long as a head's whole epoch."""
    temporary = name.with_name(f".{name.name}.link")
    temporary.unlink(missing_ok=True)
    try:
        os.link(there, temporary)
    except OSError:  # a file system without second names
        write_atomic(name, there.read_bytes())
    else:
        os.replace(temporary, name)


def resume_point(run: RunDir) -> Path | None:
    """The newest checkpoint of a run that is whole; None where it has not got so far.

    Every checkpoint falls on the end of an epoch, and what follows is a function of it and of the
    configuration: resuming from an older one repeats epochs, and ends in the same numbers.

    Raises:
        HEp2Error: no checkpoint is whole.
    """
    if not run.last.is_file():
        return None
    damage = []
    for path in (run.last, run.previous, run.best):
        try:
            epoch = read_checkpoint(path).get("epoch")
        except HEp2Error as error:
            damage.append(error)
            continue
        if damage:
            log.warning("%s is damaged: going on from %s, epoch %s", run.last, path, epoch)
            rank_zero_only(write_atomic)(run.last, path.read_bytes())
        return path
    raise damage[0]


class Checkpoints(Checkpoint):
    """`last.ckpt` on the ends of epochs; `best.ckpt` where `monitor` was lowest, or greatest.

    Lightning's own writes no `last.ckpt` after an epoch that was not the best, and forgets the
    best of a run whose directory was moved. Without a `monitor` the last epoch is the best.

    Both files are written after the last epoch, and where `every` seconds have passed since they
    were. A run that dies repeats the epochs since then, to the same numbers.
    """

    def __init__(
        self,
        folder: Path,
        files: CheckpointFiles,
        monitor: str | None,
        greatest: bool = False,
        every: float = 0.0,
    ) -> None:
        self.run, self.files = RunDir(folder), files
        self.monitor, self.sign = monitor, -1 if greatest else 1
        self.lowest: float | None = None
        self.stopped = False  # whether early stopping has ended the training
        self.every, self.written = every, time.monotonic()
        self.behind = False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"lowest": self.lowest, "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.lowest, self.stopped = state_dict["lowest"], state_dict.get("stopped", False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A run that was interrupted after its training is not trained further."""
        trainer.should_stop = trainer.should_stop or self.stopped

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the best, and write when it is time; validation has been before."""
        # A metric is averaged over the ranks when it is first read. A progress bar reads it, on
        # rank 0 alone; the others must do so too before all wait for each other.
        _ = trainer.callback_metrics
        self.stopped = trainer.should_stop
        best = self._is_best(trainer)
        if best and self.monitor:  # a later epoch may be worse; the copy waits in memory
            trainer.save_checkpoint(self.run.best)
        ending = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        late = time.monotonic() - self.written >= self.every
        self.behind = not trainer.strategy.broadcast(ending or late)
        if not self.behind:
            self._write(trainer, best)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A training that was ended by steps or by the clock is kept as well."""
        if self.behind:
            self._write(trainer, best=self.monitor is None)

    def _write(self, trainer: L.Trainer, best: bool) -> None:
        # `last` comes last: whenever the process dies, no epoch behind it is counted as the best.
        if not (best and self.monitor):
            trainer.save_checkpoint(self.run.best if best else self.run.last)
        if trainer.is_global_zero:
            if self.run.last.is_file():
                same_file(self.run.last, self.run.previous)
            self.files.write()
            if best:
                same_file(self.run.best, self.run.last)
        self.written = time.monotonic()

    def _is_best(self, trainer: L.Trainer) -> bool:
        if self.monitor is None:
            return True
        score = self.sign * float(trainer.callback_metrics[self.monitor])
        score = math.inf if math.isnan(score) else score
        best = self.lowest is None or score < self.lowest
        self.lowest = score if best else self.lowest
        return best
