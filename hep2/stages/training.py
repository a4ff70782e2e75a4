"""What a stage is, and how one whose work is the training of a network trains it, by Lightning."""

import copy
import logging
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import lightning as L
import numpy as np
import torch
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from omegaconf import DictConfig

from hep2.config import plain
from hep2.data.cells import NOBODY, Indices
from hep2.data.datamodule import HEp2DataModule
from hep2.data.fold import Fold
from hep2.data.protocols import Split
from hep2.errors import HEp2Error
from hep2.nets.architectures import read_checkpoint
from hep2.rundir.directory import RunDir
from hep2.stages.callbacks import EpochSeed, OwnSignals, TerminateOnNaN
from hep2.stages.checkpoints import CheckpointFiles, Checkpoints, resume_point
from hep2.trainer import NO_CLOCK, batches_of_epoch, precision_of

for chatter in ("lightning.pytorch", "lightning.fabric"):  # advice that does not hold here
    logging.getLogger(chatter).setLevel(logging.WARNING)
# But what ends a run because a rank of it has died is to say so.
logging.getLogger("lightning.fabric.strategies.launchers").setLevel(logging.INFO)
# Profilers tell what they found by logging alone.
logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)

LONGEST_WAIT = timedelta(minutes=5)  # of one rank for another; by default it is half an hour

S = TypeVar("S", bound="Stage")


class Stage(ABC):
    """What is trained on a fold's training cells and scored on its test cells.

    A subclass fills in the hooks. They are called in this order: `configure_inputs`,
    `configure_task`, `train`, and then `hold_out` and `score`, or `held_out_score` in a trial.
    """

    tunable = False  # whether `held_out_score` may choose its settings (`hep2.stages.tuning`)
    kept = True  # whether checkpoints are; a trial is asked once, and begun anew if it was killed
    inputs: Any  # what the task is fed with
    task: Any  # what learns, fresh until `train`

    def __init__(self, cfg: DictConfig, fold: Fold, run: RunDir) -> None:
        self.cfg, self.fold, self.run = cfg, fold, run
        self.inputs = self.configure_inputs()
        self._begin()

    def variant(self: S, cfg: DictConfig, fold: Fold, run: RunDir) -> S:
        """The same stage, untrained, with other settings, cells or directory.

        The inputs stay, so `cfg` must not ask for others: they may have cost an encoder's pass.
        """
        other = copy.copy(self)
        other.cfg, other.fold, other.run = cfg, fold, run
        other._begin()
        return other

    @property
    def to_be_tuned(self) -> bool:
        """Whether there is a grid, `tuning.grid`, of settings to choose before the training."""
        cfg = self.cfg
        return self.tunable and cfg.tuning.grid is not None and cfg.stage.get("tuned", True)

    def _begin(self) -> None:
        # First weights depend on the seed alone, not on what has drawn random numbers before.
        L.seed_everything(self.cfg.seed, workers=True, verbose=False)
        self.task = self.configure_task()

    @abstractmethod
    def configure_inputs(self) -> Any:
        """Find or compute them; HEp2Error where an encoder is missing, or of another fold."""

    @abstractmethod
    def configure_task(self) -> Any:
        """Make what learns, fresh, as `self.cfg` asks; random numbers are seeded before."""

    @abstractmethod
    def train(self, loggers: list[Logger]) -> int | None:
        """Learn; gives the number of epochs, or None on a process without a say in the result."""

    def hold_out(self) -> None:  # noqa: B027  most stages have none
        """Name training specimens without having learned from them, on every process."""

    @abstractmethod
    def score(self) -> dict[str, Any]:
        """Read the test cells, once: write predictions.csv, return what result.json gets."""

    def held_out_score(self) -> float:
        """How good on the fold's test cells, in a trial those held out; the greater the better."""
        raise NotImplementedError


@contextmanager
def trained_apart(
    stage: S, cfg: DictConfig, learning: Indices, held: Indices, scratch: RunDir
) -> Iterator[S]:
    """The stage with the settings of `cfg`, trained on some of its training cells: a trial.

    `learning` and `held` are rows of the training cells; those held are the trial's test cells.
    What it writes into `scratch` is gone afterwards.
    """
    cfg = cfg.copy()
    cfg.callbacks = {}
    cfg.trainer.enable_progress_bar = False
    cells, leaky = stage.fold.split.train, stage.fold.split.leaky
    split = Split(cells[learning], NOBODY, cells[held], leaky, "an inner fold")
    _discard(scratch)  # what a killed process may have left
    trial = stage.variant(cfg, replace(stage.fold, split=split), scratch)
    trial.kept = False  # without validation cells the last epoch counts, and is at hand
    try:
        trial.train([])
        yield trial
    finally:
        _discard(scratch)


@rank_zero_only
def _discard(scratch: RunDir) -> None:
    shutil.rmtree(scratch.path, ignore_errors=True)


class NetworkStage(Stage):
    """A stage whose task is a LightningModule."""

    task: L.LightningModule

    def __init__(self, cfg: DictConfig, fold: Fold, run: RunDir) -> None:
        check_callbacks(plain(cfg.callbacks), fold.split)
        super().__init__(cfg, fold, run)

    @property
    def datamodule(self) -> HEp2DataModule:
        """Batches of the fold's cells; a new module each time."""
        cfg, labels, split = self.cfg, self.fold.cells.labels, self.fold.split
        size, workers = cfg.stage.batch_size, cfg.data.workers
        return HEp2DataModule(self.inputs, labels, split, size, cfg.seed, workers, self.chances)

    @property
    def chances(self) -> NDArray[np.float64] | None:
        """Of each training cell to be drawn; None: every cell once an epoch."""
        return None

    @property
    def monitor(self) -> str | None:
        """The metric of validation that chooses among epochs; None: the last epoch counts.

        Where a pattern has no validation cell the loss must not choose.
        """
        return None if self.fold.split.note else "val/loss"

    def train(self, loggers: list[Logger]) -> int | None:
        """Fit, from the last checkpoint where there is one; take the weights to be tested."""
        # Deterministic algorithms would fill every new tensor with NaN before it is written to.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        if precision_of(self.cfg.trainer) != "32-true":
            torch.set_float32_matmul_precision("high")  # TF32, where a GPU has it
        if self.cfg.compile:
            for network in self.task.children():
                network.compile()  # in place: names in checkpoints stay as they are
        trainer = self._trainer(loggers)
        resume = resume_point(self.run)
        with _sentences():
            trainer.fit(self.task, datamodule=self.datamodule, ckpt_path=resume, weights_only=True)
        if not trainer.is_global_zero:
            return None
        if self.kept:
            self.run.previous.unlink(missing_ok=True)
            selected = self.run.best if self.monitor else self.run.last
            self.task.load_state_dict(read_checkpoint(selected)["state_dict"], strict=True)
        return trainer.current_epoch

    def _trainer(self, loggers: list[Logger]) -> L.Trainer:
        """The trainer of the configuration, with our callbacks, checkpoints and time limit."""
        cfg, files = self.cfg, CheckpointFiles()
        greatest = self.monitor != "val/loss"
        keeper = Checkpoints(self.run.path, files, self.monitor, greatest, cfg.checkpoint_seconds)
        ours = [EpochSeed(cfg.seed), OwnSignals(), TerminateOnNaN(self.fold.cells.ids)]
        named = instantiate(cfg.callbacks, _convert_="all").values()
        if not cfg.trainer.enable_progress_bar:  # Lightning refuses the two together
            named = [callback for callback in named if not isinstance(callback, ProgressBar)]
        trainer: L.Trainer = instantiate(
            cfg.trainer,
            callbacks=[*ours, *([keeper] * self.kept), *named],
            limit_train_batches=batches_of_epoch(cfg),
            enable_checkpointing=self.kept,
            logger=loggers,
            precision=precision_of(cfg.trainer),
            default_root_dir=str(self.run.path),
            _convert_="all",
        )
        if isinstance(trainer.strategy, DDPStrategy):  # a word in the YAML, so set afterwards
            trainer.strategy._timeout = LONGEST_WAIT
        trainer.strategy.checkpoint_io = files
        return trainer


def check_callbacks(named: Mapping[str, Any], split: Split) -> None:
    """Refuse callbacks (plain values, by name) that this fold's training cannot bear.

    Raises:
        HEp2Error: one ends the training by the clock, or watches validation where there is none.
    """
    for name, settings in named.items():
        if str(settings.get("_target_")).endswith(".Timer"):
            raise HEp2Error(f"callbacks.{name} is refused: {NO_CLOCK}")
        watched = str(settings.get("monitor"))
        if watched.startswith("val") and settings.get("strict", True) and not len(split.val):
            raise HEp2Error(
                f"callbacks.{name} watches {watched}, but no specimen of this fold is kept for "
                f"validation: set protocol.validation=0.2, or drop it by ~callbacks.{name}"
            )


@contextmanager
def _sentences() -> Iterator[None]:
    """What Lightning finds wrong with settings when it has seen the batches and the metrics."""
    try:
        yield
    except MisconfigurationException as error:
        raise HEp2Error(" ".join(str(error).split())) from error
    except RuntimeError as error:
        if "conditioned on metric" not in str(error):  # early stopping that watches what is not
            raise
        raise HEp2Error(" ".join(str(error).split())) from error
