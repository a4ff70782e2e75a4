"""Training specimens named by a classifier that has not learned from them: to calibrate with.

Test specimens are never used for that. What inner folds hold out was seen by features that learn
without labels; and their classifiers learned from fewer specimens than the one that is tested.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from omegaconf import DictConfig

from hep2.calls.calibration import Calibration, HeldOut, calibrated
from hep2.config import plain
from hep2.data.cells import Indices
from hep2.data.fold import Fold
from hep2.errors import HEp2Error, whole
from hep2.files import write_atomic
from hep2.heads.estimator import Probabilities, inner_folds
from hep2.rundir.predictions import held_out_csv
from hep2.stages.callbacks import NotFinite
from hep2.stages.training import Stage

log = logging.getLogger(__name__)

# Probabilities of the second part by a classifier that learned from the first; both are rows of the
# training cells. The number is that of the inner fold.
Apart = Callable[[Indices, Indices, int], Probabilities]
Settings = dict[str, Any]  # of stage.calibration


def settings_of(cfg: DictConfig) -> Settings:
    """`stage.calibration`, checked; a stage whose YAML lacks it holds nothing out for it.

    Raises:
        HEp2Error: one of them is unknown or cannot be.
    """
    asked = {"folds": 0, "trainings": None, "epochs": 1.0, "alpha": [0.1], "fewest_cells": 1}
    asked |= plain(cfg.stage.get("calibration")) or {}
    good: dict[str, tuple[bool, str]] = {
        "folds": (whole(asked["folds"], 0) and asked["folds"] != 1, "0, or a number from 2"),
        "trainings": (
            asked["trainings"] is None or whole(asked["trainings"], 1),
            "null, or a number from 1",
        ),
        "epochs": (_share(asked["epochs"]), "a share of stage.epochs, above 0, up to 1"),
        "alpha": (
            isinstance(asked["alpha"], list)
            and bool(asked["alpha"])
            and all(_share(alpha) and alpha < 1 for alpha in asked["alpha"]),
            "a list of numbers between 0 and 1, for example [0.1, 0.05]",
        ),
        "fewest_cells": (whole(asked["fewest_cells"], 1), "a number from 1"),
    }
    for key in asked:
        if key not in good:
            known = ", ".join(good)
            raise HEp2Error(f"stage.calibration.{key} is unknown; there are {known}")
        if not good[key][0]:
            raise HEp2Error(f"stage.calibration.{key}={asked[key]} must be {good[key][1]}")
    return asked


def calibration_by(stage: Stage, held: HeldOut | str) -> Calibration | str:
    """What is learned of the held-out cells, which are kept in the run; or why nothing is."""
    if isinstance(held, str):
        return held
    write_atomic(stage.run.held_out, held_out_csv(held, stage.fold.cells.classes))
    asked = settings_of(stage.cfg)
    return calibrated(held, asked["alpha"], asked["fewest_cells"])


def _share(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= 1


def held_out(
    stage: Stage, validation: Callable[[Indices], Probabilities] | None, apart: Apart
) -> HeldOut | str:
    """Cells of held-out specimens, named; or in a sentence why there are none.

    Validation specimens serve where the fold has some, none of which it has learned from, and
    `validation` names them, as they cost no training; otherwise every one of the inner folds that
    are asked for is held out in turn.

    Raises:
        HEp2Error: as `settings_of` does.
    """
    asked, fold = settings_of(stage.cfg), stage.fold
    train, val = fold.split.train, fold.split.val
    if fold.split.leaky or np.any(fold.cells.specimens[train] == ""):
        return "no whole specimens can be held out: the protocol is leaky, or they are unknown"
    specimens = fold.cells.specimens
    if len(val) and validation and not len(np.intersect1d(specimens[train], specimens[val])):
        how = "validation specimens, by which the epoch was chosen"
        return _of(fold, val, validation(val), how)
    if not asked["folds"]:
        return "stage.calibration.folds=0 asks for none; each would be one more training"
    folds = inner_folds(fold, asked["folds"])
    chosen = folds[: asked["trainings"]]
    if not chosen:
        return "a single training specimen: none can be held out"
    try:
        named = [apart(*parts, number) for number, parts in enumerate(chosen)]
    except NotFinite:
        return "the loss was not finite where specimens were held out"
    labels, rows, made = fold.cells.labels[train], [], []
    for (learning, held), probabilities in zip(chosen, named, strict=True):
        known = np.isin(labels[held], labels[learning])  # a pattern that was there to be learned
        rows.append(train[held][known])
        made.append(probabilities[known])
    return _of(fold, np.concatenate(rows), np.concatenate(made), _words(asked, len(folds)))


def _words(asked: Settings, count: int) -> str:
    trained = min(asked["trainings"] or count, count)
    part = "" if asked["epochs"] == 1 else f", for {100 * asked['epochs']:g} % of the epochs"
    which = f"all {count}" if trained == count else f"{trained} of {count}"
    return f"specimens held out in {which} inner folds of the training side{part}"


def _of(fold: Fold, rows: Indices, probabilities: Probabilities, how: str) -> HeldOut:
    cells = fold.cells
    held = HeldOut(cells.ids[rows], cells.specimens[rows], cells.labels[rows], probabilities, how)
    log.info("calibration: %d cells, %s", len(rows), how)
    return held
