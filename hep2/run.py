"""One run, from its configuration to its result: the only orchestration there is."""

import errno
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from hep2.config import IN_SWEEP, plain
from hep2.data.fold import Fold, audited, open_fold
from hep2.errors import HEp2Error, whole
from hep2.files import locked
from hep2.metrics import HEADLINE
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import Identity, encoder_paths, method_of, run_path, runs_behind
from hep2.rundir.metrics_csv import learning_curves
from hep2.rundir.result import collapsed_encoders, describe, seconds_of
from hep2.stages.autoencoder import AutoencoderStage
from hep2.stages.classifier import SupervisedStage, head
from hep2.stages.clustering import ClusteringStage
from hep2.stages.ensemble import EnsembleStage
from hep2.stages.training import Stage
from hep2.stages.tuning import tuned
from hep2.trackers.loggers import finish, log_record, log_summary, make_loggers
from hep2.trainer import check_trainer, precision_of

log = logging.getLogger(__name__)

LARGEST_SEED = 2**32 - 1  # NumPy's
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

STAGES: dict[str, Callable[[DictConfig, Fold, RunDir], Stage]] = {
    "autoencoder": AutoencoderStage,
    "head": head,
    "supervised": SupervisedStage,
    "clustering": ClusteringStage,
    "ensemble": EnsembleStage,
}


def fit(cfg: DictConfig) -> RunDir:
    """Train one stage on one fold, score it on the test cells, write the result.

    A run that is finished is left alone; one that was interrupted goes on from its last epoch.
    `cfg` is as composed from conf/train.yaml.

    Raises:
        HEp2Error: a setting, an input or a file is wrong; the message says how to mend it.
    """
    check_trainer(plain(cfg.trainer))
    if not whole(cfg.seed, 0, LARGEST_SEED):
        raise HEp2Error(f"seed={cfg.seed} must be a whole number from 0 to {LARGEST_SEED}")
    run = RunDir(run_path(cfg))
    if getattr(rank_zero_only, "rank", 0):  # rank 0 speaks, and holds the directory, for all
        logging.getLogger().setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        return run if run.finished and not cfg.overwrite else _fit(cfg, run)
    with locked(run.lock, wait=IN_SWEEP in os.environ):
        run.claim(cfg)
        if run.finished:
            log.info("%s is finished already (overwrite=true trains it again)", run.path)
            return run
        run.forget_failure()
        return _fit(cfg, run)


def _fit(cfg: DictConfig, run: RunDir) -> RunDir:
    with run.recording_failure():
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
    def record() -> Any:
        from hep2.evaluation.report import record_of  # draws: only where a dashboard is

        return record_of(run.path)

    started = time.monotonic()
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    fold = open_fold(cfg)
    identity = _identity(cfg, fold)
    known = describe(identity, cfg.stage.kind, fold) | {"audit": audited(fold).as_dict()}
    known["precision"] = precision_of(cfg.trainer)
    stage = STAGES[cfg.stage.task](cfg, fold, run)
    encoders, behind = encoder_paths(cfg, selected=not fold.split.note), runs_behind(cfg)
    folders = [*(checkpoint.parent for checkpoint in encoders), *(run.path for run in behind)]
    known["collapsed_encoders"] = collapsed_encoders(dict.fromkeys(folders))
    known["encoder_seconds"] = seconds_of(behind)
    with _tracked(cfg, identity, run) as loggers:
        stage, chosen = tuned(stage) if stage.to_be_tuned else (stage, {})
        epochs = stage.train(loggers)
        stage.hold_out()
        if epochs is not None:
            scores = stage.score()
            log_summary(loggers, scores["metrics"])
            known |= {**chosen, "epochs": epochs, "seconds": round(time.monotonic() - started, 1)}
            run.write_result(known | {"curves": learning_curves(run.path)} | scores)
            log_record(loggers, record)
            log.info("%s: %s", run.path, _headline(scores["metrics"]))
    return run


def _identity(cfg: DictConfig, fold: Fold) -> Identity:
    return Identity(
        name=cfg.name,
        stage=cfg.stage.name,
        method=method_of(cfg),
        data=fold.cells.name,
        protocol=cfg.protocol.name,
        leaky=fold.split.leaky,
        synthetic=fold.cells.synthetic,
        fold=cfg.fold,
        seed=cfg.seed,
        labelled=cfg.protocol.labelled,
    )


@contextmanager
def _tracked(cfg: DictConfig, identity: Identity, run: RunDir) -> Iterator[list[Logger]]:
    """Loggers that are finished with the right exit code, whatever happens."""
    entries = instantiate(cfg.logger, _convert_="all")
    loggers = make_loggers(entries, run.path, identity, plain(cfg))
    exit_code = 1
    try:
        yield loggers
        exit_code = 0
    finally:
        finish(loggers, exit_code)


def _headline(scores: dict[str, float | None]) -> str:
    names = (*(metric.name for metric in HEADLINE), "mse", "clustering_accuracy")
    told = {key: score for key, score in scores.items() if score is not None}
    return ", ".join(f"{key} {score:.4f}" for key, score in told.items() if key.endswith(names))
