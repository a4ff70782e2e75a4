"""Settings of a network that are chosen before its training proper, on inner folds.

Every setting of the grid is tried on every inner fold of the training cells: as the head's grids
of `hep2.heads` are, so that no method is tuned with more care than another.
"""

import contextlib
import json
import logging
import math
import statistics
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from hep2.config import plain, redacted
from hep2.data.cells import Indices
from hep2.errors import HEp2Error, whole
from hep2.files import write_atomic
from hep2.heads.estimator import InnerFolds, Settings, combinations, inner_folds
from hep2.rundir.directory import RunDir, configuration_differences
from hep2.stages.callbacks import NotFinite
from hep2.stages.training import S, Stage, trained_apart

log = logging.getLogger(__name__)

# Settings that a new network or its training reads; inputs are made once, for all trials. Settings
# of a trial are named by dotted keys of the configuration, e.g. {"stage.optimizer.lr": 1e-3}.
TUNED = ("stage.optimizer", "stage.batch_size", "stage.epochs", "stage.loss", "model.network",
         "head", "trainer.gradient_clip_val")  # fmt: skip


def tuned(stage: S) -> tuple[S, dict[str, Any]]:
    """The stage with the best settings of `tuning.grid`, and what result.json says of the choice.

    The best has the highest mean score over the inner folds; of equal ones it is the first.

    Raises:
        HEp2Error: the grid is faulty, or the loss was not finite whatever the settings.
    """
    cfg, tuning = stage.cfg, stage.cfg.tuning
    asked = candidates(plain(tuning.grid))
    if not whole(tuning.folds, 2):
        raise HEp2Error(f"tuning.folds={tuning.folds} must be a whole number, 2 or more")
    if not isinstance(tuning.epochs, int | float) or not 0 < tuning.epochs <= 1:
        raise HEp2Error(
            f"tuning.epochs={tuning.epochs} must be a share of stage.epochs, above 0, up to 1"
        )
    folds = inner_folds(stage.fold, tuning.folds)
    scores = _scores(stage, asked, folds) if folds else []  # without folds the first is taken
    best = int(np.argmax(scores)) if scores else 0
    chosen = stage.variant(with_settings(cfg, asked[best]), stage.fold, stage.run)
    return chosen, {"chosen": {**asked[best], "inner_figure": scores[best] if scores else None}}


def candidates(grid: Any) -> list[Settings]:
    """Every combination of a grid, lists of values by dotted keys, in its order.

    Raises:
        HEp2Error: it is not a grid, an entry is not a list, or a setting cannot be tuned.
    """
    if not isinstance(grid, dict):
        raise HEp2Error(
            f"tuning.grid={grid} must name settings and their values, for example "
            "tuning.grid={stage.optimizer.lr:[1e-3,3e-3]}; null tunes nothing"
        )
    for key, values in grid.items():
        if not key.startswith(TUNED):
            raise HEp2Error(f"tuning.grid: {key} cannot be tuned; what can is {', '.join(TUNED)}")
        if not isinstance(values, list) or not values:
            raise HEp2Error(f"tuning.grid: {key}={values} must be a list of values to try")
    return combinations(grid)


def with_settings(cfg: DictConfig, settings: Settings) -> DictConfig:
    """A configuration with other values of some settings; HEp2Error where it lacks one."""
    changed = cfg.copy()
    for key, value in settings.items():
        if OmegaConf.select(cfg, key, default=...) is ...:  # null is a value
            raise HEp2Error(f"tuning.grid: there is no setting {key}")
        OmegaConf.update(changed, key, value)
    return changed


def _scores(stage: Stage, asked: list[Settings], folds: InnerFolds) -> list[float]:
    """Mean score of each candidate over the inner folds."""
    trials = Trials(stage.run, stage.cfg)
    means: list[float] = []
    for settings in asked:
        scores = []
        for number, (learning, held) in enumerate(folds):
            if (score := trials.score(settings, number)) is None:
                scratch = RunDir(stage.run.path / f"trial{len(means)}-{number}")
                score = _tried(stage, settings, learning, held, scratch)
                trials.note(settings, number, score)
            scores.append(score)
        means.append(statistics.fmean(scores))
        shown = " ".join(f"{key}={value}" for key, value in settings.items())
        log.info("tuning: %s gives %.4g on %d inner folds", shown, means[-1], len(folds))
    if max(means) == -math.inf:
        raise HEp2Error(
            "the loss was not finite with any setting of tuning.grid: look at the images, or put "
            f"lower values of {', '.join(asked[0])} in"
        )
    return means


def _tried(
    stage: Stage, settings: Settings, learning: Indices, held: Indices, scratch: RunDir
) -> float:
    """Score of one candidate on one inner fold; both are rows of the fold's training cells."""
    cfg = with_settings(stage.cfg, settings)
    cfg.stage.epochs = max(1, round(cfg.tuning.epochs * cfg.stage.epochs))
    try:
        with trained_apart(stage, cfg, learning, held, scratch) as trial:
            return trial.held_out_score()
    except NotFinite:
        return -math.inf


class Trials:
    """The scores so far, of one run and one configuration: `tuning.json` of the run directory.

    What was noted under another configuration, or cannot be read, is forgotten.
    """

    def __init__(self, run: RunDir, cfg: DictConfig) -> None:
        self.run = run
        self.configuration = redacted(plain(cfg))
        self.rows: list[dict[str, Any]] = []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            stored = json.loads(run.tuning.read_bytes())
            if not configuration_differences(stored["configuration"], cfg):
                self.rows = [_checked(row) for row in stored["trials"]]

    def score(self, settings: Settings, fold: int) -> float | None:
        """The score of a trial; None where there is none yet."""
        for row in self.rows:
            if row["settings"] == settings and row["fold"] == fold:
                return -math.inf if row["figure"] is None else row["figure"]
        return None

    @rank_zero_only
    def note(self, settings: Settings, fold: int, score: float) -> None:
        """Keep a score; HEp2Error where the file cannot be written."""
        figure = score if math.isfinite(score) else None  # JSON lacks minus infinity
        self.rows.append({"settings": settings, "fold": fold, "figure": figure})
        content = {"configuration": self.configuration, "trials": self.rows}
        write_atomic(self.run.tuning, json.dumps(content, indent=1) + "\n")


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    figure = None if row["figure"] is None else float(row["figure"])
    if figure is not None and not math.isfinite(figure):
        raise ValueError("a score that is never written")
    return {"settings": dict(row["settings"]), "fold": int(row["fold"]), "figure": figure}
