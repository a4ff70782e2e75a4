"""One run, from its configuration to its result: the only orchestration there is."""

import errno
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import lightning as L
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from hep2 import tracking
from hep2.config import IN_SWEEP, plain
from hep2.data.fold import Fold, audited, open_fold
from hep2.errors import HEp2Error
from hep2.evaluation.report import record_of
from hep2.files import locked
from hep2.rundir import directory as failure
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import encoder_runs, method_of, run_path
from hep2.rundir.metrics_csv import learning_curves
from hep2.rundir.result import collapsed_encoders, describe, seconds_of
from hep2.stages.autoencoder import autoencoder
from hep2.stages.classifier import head, supervised
from hep2.stages.clustering import clustering
from hep2.stages.tuning import TunableStage, tuned

log = logging.getLogger(__name__)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Stage(Protocol):
    """What is trained on a fold's training cells and scored on its test cells."""

    def train(self, loggers: list[Logger]) -> int | None:
        """Learn; returns the epochs, or None on a process that has no say in the result."""

    def score(self) -> dict[str, Any]:
        """The figures for result.json, read off the test cells once."""


STAGES: dict[str, Callable[[DictConfig, Fold, RunDir], Stage]] = {
    "autoencoder": autoencoder,
    "head": head,
    "supervised": supervised,
    "clustering": clustering,
}


def fit(cfg: DictConfig) -> RunDir:
    """Train one stage on one fold, score it on the test cells, write the result.

    A run that is finished is left alone; one that was interrupted goes on from its last epoch.

    Args:
        cfg: as composed from conf/train.yaml.

    Returns:
        The run's directory.

    Raises:
        HEp2Error: a setting, an input or a file is wrong; the message says how to mend it.
    """
    run = RunDir(run_path(cfg))
    if getattr(rank_zero_only, "rank", 0):  # rank 0 speaks, and holds the directory, for all
        logging.getLogger().setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        return run if run.finished and not cfg.overwrite else _fit(cfg, run)
    with locked(run.lock, wait=IN_SWEEP in os.environ):
        run.claim(cfg)
        if run.finished:
            log.info("%s is finished already (overwrite=true makes it anew)", run.path)
            return run
        failure.forget(run.path)
        return _fit(cfg, run)


def _fit(cfg: DictConfig, run: RunDir) -> RunDir:
    with failure.noted(run.path):
        try:
            return _trained_and_scored(cfg, run)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise HEp2Error(
                f"cannot write into {run.path}: {error.strerror}; free some space, and the same "
                "command goes on from the last checkpoint"
            ) from error


def _trained_and_scored(cfg: DictConfig, run: RunDir) -> RunDir:
    started = time.monotonic()
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    fold = open_fold(cfg)
    audit = {"audit": audited(fold).as_dict()}
    stage = STAGES[cfg.stage.task](cfg, fold, run)
    collapsed = collapsed_encoders(cfg, fold)
    encoder_seconds = seconds_of(encoder_runs(cfg))  # a damaged result is told before the training
    with _tracked(cfg, fold, run) as loggers:
        chosen: dict[str, Any] = {}
        if isinstance(stage, TunableStage):
            stage, chosen = tuned(stage)
        epochs = stage.train(loggers)
        if epochs is not None:
            figures = stage.score()
            tracking.log_summary(loggers, figures["metrics"])
            curves = {"curves": learning_curves(run.path / "metrics.csv")}
            extent = {
                "epochs": epochs,
                "seconds": round(time.monotonic() - started, 1),
                "encoder_seconds": encoder_seconds,
            }
            run.write_result(
                describe(cfg, fold) | audit | collapsed | extent | curves | chosen | figures
            )
            tracking.log_record(loggers, partial(record_of, run.path))
            log.info("%s: %s", run.path, _headline(figures["metrics"]))
    return run


@contextmanager
def _tracked(cfg: DictConfig, fold: Fold, run: RunDir) -> Iterator[list[Logger]]:
    """Loggers that are finished with the right exit code, whatever happens."""
    identity = tracking.RunIdentity(
        name=cfg.name,
        stage=cfg.stage.name,
        method=method_of(cfg),
        data=fold.cells.name,
        protocol=cfg.protocol.name,
        leaky=fold.split.leaky,
        synthetic=fold.cells.synthetic,
        fold=cfg.fold,
        seed=cfg.seed,
    )
    entries = instantiate(cfg.logger, _convert_="all")
    loggers = tracking.make_loggers(entries, run.path, identity, plain(cfg))
    exit_code = 1
    try:
        yield loggers
        exit_code = 0
    finally:
        tracking.finish(loggers, exit_code)


def _headline(figures: dict[str, float | None]) -> str:
    worth_a_line = ("aca", "mca", "mse", "clustering_accuracy")
    shown = {key: value for key, value in figures.items() if key.endswith(worth_a_line)}
    return ", ".join(f"{key} {value:.4f}" for key, value in shown.items() if value is not None)
