"""What a stage is, and how one whose work is the training of a network trains it, by Lightning."""

import copy
import logging
from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any, TypeVar

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
from hep2.rundir.directory import RunDir

for chatter in ("lightning.pytorch", "lightning.fabric"):  # advice that does not hold here
    logging.getLogger(chatter).setLevel(logging.WARNING)
# but the one who ends a run because a rank of it has died is to say so
logging.getLogger("lightning.fabric.strategies.launchers").setLevel(logging.INFO)

LONGEST_WAIT = timedelta(minutes=5)  # of one rank for another; by default it is half an hour

S = TypeVar("S", bound="Stage")


class Stage(ABC):
    """What is trained on a fold's training cells and scored on its test cells.

    A subclass fills in the hooks. They are called in this order: `configure_inputs`,
    `configure_task`, `train`, and then `score`, or `held_out_score` where it is a trial.

    Args:
        cfg: the run's configuration.
        fold: whose training cells are learned from.
        run: where checkpoints and predictions go.

    Attributes:
        inputs: what the task is fed with.
        task: what learns, fresh until `train`.
        tunable: whether `held_out_score` may choose its settings (`hep2.stages.tuning`).
    """

    tunable = False
    inputs: Any
    task: Any

    def __init__(self, cfg: DictConfig, fold: Fold, run: RunDir) -> None:
        self.cfg, self.fold, self.run = cfg, fold, run
        self.inputs = self.configure_inputs()
        self._begin()

    def variant(self: S, cfg: DictConfig, fold: Fold, run: RunDir) -> S:
        """The same stage, untrained, with other settings, cells or directory.

        It has the same inputs, so `cfg` must not ask for others: they may have cost an encoder's
        pass over the data set.
        """
        other = copy.copy(self)
        other.cfg, other.fold, other.run = cfg, fold, run
        other._begin()
        return other

    def _begin(self) -> None:
        # First weights depend on the seed alone, not on what has drawn random numbers before.
        L.seed_everything(self.cfg.seed, workers=True, verbose=False)
        self.task = self.configure_task()

    @abstractmethod
    def configure_inputs(self) -> Any:
        """Find or compute what the task is fed with.

        Raises:
            HEp2Error: an encoder is missing, or belongs to another fold.
        """

    @abstractmethod
    def configure_task(self) -> Any:
        """Make what learns, fresh, as `self.cfg` asks; random numbers are seeded before."""

    @abstractmethod
    def train(self, loggers: list[Logger]) -> int | None:
        """Learn.

        Returns:
            The number of epochs, or None on a process that has no say in the result.
        """

    @abstractmethod
    def score(self) -> dict[str, Any]:
        """Read the test cells, once: write predictions.csv, return what result.json gets."""

    def held_out_score(self) -> float:
        """How good on the test cells of its fold, in a trial those that an inner fold holds out.

        The greater the better. Only for stages that are `tunable`.
        """
        raise NotImplementedError


class NetworkStage(Stage):
    """A stage whose task is a LightningModule."""

    task: L.LightningModule

    @property
    def datamodule(self) -> HEp2DataModule:
        """Batches of the fold's cells; a new module each time."""
        cfg, cells = self.cfg, self.fold.cells
        return HEp2DataModule(
            self.inputs, cells.labels, self.fold.split, cfg.stage.batch_size, cfg.seed,
            cfg.data.workers,
        )  # fmt: skip

    @property
    def selecting(self) -> bool:
        """Whether validation chooses among epochs.

        Where a pattern has no validation cell the loss must not choose: the last epoch counts.
        """
        return not self.fold.split.note

    @property
    def monitor(self) -> str:
        """The metric of validation that chooses: `val/loss`, the lower the better."""
        return "val/loss"

    def train(self, loggers: list[Logger]) -> int | None:
        """Fit, from the last checkpoint where there is one; take the weights to be tested."""
        # Deterministic algorithms would fill every new tensor with NaN before it is written to.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        if self.cfg.trainer.precision != "32-true":
            torch.set_float32_matmul_precision("high")  # TF32, where a GPU has it
        if self.cfg.compile:
            for network in self.task.children():
                network.compile()  # in place: names in checkpoints stay as they are
        trainer = self._trainer(loggers)
        resume = resume_point(self.run)
        trainer.fit(self.task, datamodule=self.datamodule, ckpt_path=resume, weights_only=True)
        if not trainer.is_global_zero:
            return None
        self.run.previous.unlink(missing_ok=True)
        selected = self.run.best if self.selecting else self.run.last
        self.task.load_state_dict(read_checkpoint(selected)["state_dict"], strict=True)
        return trainer.current_epoch

    def _trainer(self, loggers: list[Logger]) -> L.Trainer:
        """The trainer of the configuration, with our callbacks, checkpoints and time limit."""
        cfg = self.cfg
        named = instantiate(cfg.callbacks, _convert_="all").values()
        if not cfg.trainer.enable_progress_bar:  # Lightning refuses the two together
            named = [callback for callback in named if not isinstance(callback, ProgressBar)]
        files = CheckpointFiles()
        keeper = Checkpoints(
            self.run.path,
            files,
            self.monitor if self.selecting else None,
            self.monitor != "val/loss",  # then the greatest is the best
            cfg.checkpoint_seconds,
        )
        trainer: L.Trainer = instantiate(
            cfg.trainer,
            callbacks=[EpochSeed(cfg.seed), TerminateOnNaN(self.fold.cells.ids), keeper, *named],
            logger=loggers,
            default_root_dir=str(self.run.path),
            _convert_="all",
        )
        if isinstance(trainer.strategy, DDPStrategy):
            # Its constructor's only; but `trainer.strategy` is to stay a word.
            trainer.strategy._timeout = LONGEST_WAIT
        trainer.strategy.checkpoint_io = files
        return trainer
