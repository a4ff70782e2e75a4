"""A stage whose work is the training of a network by Lightning."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig

from hep2.callbacks import EpochSeed, TerminateOnNaN
from hep2.checkpoints import CheckpointFiles, Checkpoints, read_checkpoint, resume_point
from hep2.data.datamodule import HEp2DataModule
from hep2.data.fold import Fold
from hep2.data.inputs import Inputs
from hep2.rundir.directory import RunDir

for chatter in ("lightning.pytorch", "lightning.fabric"):  # advice that does not hold here
    logging.getLogger(chatter).setLevel(logging.WARNING)
# but the one who ends a run because a rank of it has died is to say so
logging.getLogger("lightning.fabric.strategies.launchers").setLevel(logging.INFO)

LONGEST_WAIT = timedelta(minutes=5)  # of one rank for another; by default it is half an hour


@dataclass
class NetworkStage:
    """Trains a task on a fold; a subclass says how the trained task is scored.

    Attributes:
        cfg: the run's configuration.
        fold: whose training cells are learned from.
        run: where checkpoints go.
        new_task: makes the LightningModule, untrained, that a configuration asks for.
        inputs: what it is fed with.
        task: the LightningModule of `cfg`.
    """

    cfg: DictConfig
    fold: Fold
    run: RunDir
    new_task: Callable[[DictConfig], Any]
    inputs: Inputs
    task: L.LightningModule = field(init=False)

    def __post_init__(self) -> None:
        # First weights hang on the seed alone, not on what has drawn random numbers before.
        L.seed_everything(self.cfg.seed, workers=True, verbose=False)
        self.task = self.new_task(self.cfg)
        self.datamodule = HEp2DataModule(
            self.inputs,
            self.fold.cells.labels,
            self.fold.split,
            self.cfg.stage.batch_size,
            self.cfg.seed,
            self.cfg.data.workers,
        )

    @property
    def selecting(self) -> bool:
        """Whether validation chooses among epochs.

        Where a pattern has no validation cell the loss must not choose: the last epoch counts.
        """
        return not self.fold.split.note

    @property
    def monitor(self) -> str:
        """The figure of validation that chooses: `val/loss`, the lower the better."""
        return "val/loss"

    def train(self, loggers: list[Logger]) -> int | None:
        """Fit, from the last checkpoint where there is one; take the weights to be tested.

        Returns:
            The number of epochs, or None on a process that has no say in the result.
        """
        # Deterministic algorithms would fill every new tensor with NaN before it is written to.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        if self.cfg.trainer.precision != "32-true":
            torch.set_float32_matmul_precision("high")  # TF32, where a GPU has it
        if self.cfg.compile:
            for network in self.task.children():
                network.compile()  # in place: names in checkpoints stay as they are
        named = instantiate(self.cfg.callbacks, _convert_="all").values()
        if not self.cfg.trainer.enable_progress_bar:  # Lightning refuses the two together
            named = [callback for callback in named if not isinstance(callback, ProgressBar)]
        figure = self.monitor if self.selecting else None
        files = CheckpointFiles()
        greatest = self.monitor != "val/loss"
        every = self.cfg.checkpoint_seconds
        keeper = Checkpoints(self.run.path, files, figure, greatest, every)
        trainer: L.Trainer = instantiate(
            self.cfg.trainer,
            callbacks=[
                EpochSeed(self.cfg.seed),
                TerminateOnNaN(self.fold.cells.ids),
                keeper,
                *named,
            ],
            logger=loggers,
            default_root_dir=str(self.run.path),
            _convert_="all",
        )
        if isinstance(trainer.strategy, DDPStrategy):
            # Its constructor's only; but `trainer.strategy` is to stay a word.
            trainer.strategy._timeout = LONGEST_WAIT
        trainer.strategy.checkpoint_io = files
        resume = resume_point(self.run)
        trainer.fit(self.task, datamodule=self.datamodule, ckpt_path=resume, weights_only=True)
        if not trainer.is_global_zero:
            return None
        self.run.previous.unlink(missing_ok=True)
        selected = self.run.best if self.selecting else self.run.last
        self.task.load_state_dict(read_checkpoint(selected)["state_dict"], strict=True)
        return trainer.current_epoch
