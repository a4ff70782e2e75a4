"""How well a run's answers kept what they promise: figures of its test cells and specimens."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hep2 import metrics
from hep2.calls.answer import Call, call, needed_by, steadiness
from hep2.calls.calibration import Calibration
from hep2.calls.conformal import prediction_sets
from hep2.calls.specimens import Specimens, patterns_of
from hep2.metrics import FloatArray, IntArray, StringArray

Unlike = NDArray[np.bool_] | None  # (N,): whether a cell is unlike those of the training


def brier(targets: IntArray, probabilities: FloatArray) -> float:
    """Mean over cells of the squared distance between probabilities and the truth, 0 to 2.

    Brier, Monthly Weather Review 78 (1950) 1-3. Target class indices (N,), probabilities (N, C).
    """
    if not len(targets):
        return float("nan")
    truth = np.eye(probabilities.shape[1])[targets]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def level_of(alpha: float) -> str:
    """What a set of this alpha promises, in per cent, as names of figures have it."""
    return f"{100 * (1 - alpha):g}"


def cell_figures(
    targets: IntArray, outputs: IntArray, probabilities: FloatArray, known: Calibration | None
) -> dict[str, float]:
    """Brier score, and with a calibration ECE and Brier score after it, and its sets of cells.

    Class indices (N,), probabilities (N, C) as the classifier gave them.
    """
    found = {"brier": brier(targets, probabilities)}
    if not known:
        return found
    scaled = known.scaled(probabilities)
    found["ece_calibrated"] = metrics.calibration_error(targets, outputs, scaled)
    found["brier_calibrated"] = brier(targets, scaled)
    for one in known.limits:
        inside = prediction_sets(scaled, one.cells)
        found[f"cell_coverage_{level_of(one.alpha)}"] = _hits(inside, targets)
        found[f"cell_set_size_{level_of(one.alpha)}"] = float(inside.sum(axis=1).mean())
    return found


def specimen_figures(
    specimens: StringArray,
    targets: IntArray,
    probabilities: FloatArray,
    known: Calibration | None,
    unlike: Unlike = None,
) -> dict[str, float]:
    """Calls by mean probability, and with a calibration sets, and calls that were said.

    Of cells: names and class indices (N,), probabilities (N, C) as the classifier gave them, and
    whether they are unlike the training cells, (N,), where that is known.
    """
    scaled = known.scaled(probabilities) if known else probabilities
    whole, classes = Specimens.of(specimens, scaled), probabilities.shape[1]
    truth, outputs = patterns_of(specimens, targets, classes), whole.by_mean()
    confusion = metrics.confusion_counts(truth, outputs, classes)
    found = {
        "specimen_accuracy": float(metrics.aca(confusion)),
        "specimen_mca": float(metrics.mca(confusion)),
        "specimen_kappa": float(metrics.kappa(confusion)),
    }
    if not known:
        return found
    for one in known.limits:
        inside = prediction_sets(whole.means, one.specimens)
        found[f"specimen_coverage_{level_of(one.alpha)}"] = _hits(inside, truth)
        found[f"specimen_set_size_{level_of(one.alpha)}"] = float(inside.sum(axis=1).mean())
    said = np.array([one.said for one in calls(specimens, scaled, known, unlike).values()])
    wrong = (outputs != truth)[said]
    found["specimen_said"] = float(said.mean())
    found["specimen_error_said"] = float(wrong.mean()) if len(wrong) else float("nan")
    return found


def _hits(inside: Any, targets: IntArray) -> float:
    return float(inside[np.arange(len(targets)), targets].mean())


def calls(
    specimens: StringArray, scaled: FloatArray, known: Calibration | None, unlike: Unlike = None
) -> dict[str, Call]:
    """The answer for each specimen, by name in their order; `scaled` are of cells, (N, C)."""
    found = {}
    for name in np.unique(specimens):
        own = specimens == name
        found[str(name)] = call(scaled[own], known, None if unlike is None else unlike[own])
    return found


def calls_record(
    specimens: StringArray,
    targets: IntArray,
    probabilities: FloatArray,
    known: Calibration | None,
    classes: tuple[str, ...],
    unlike: Unlike = None,
) -> list[dict[str, Any]]:
    """What result.json says of each test specimen, in words; arguments as `specimen_figures`."""
    scaled = known.scaled(probabilities) if known else probabilities
    truth = patterns_of(specimens, targets, len(classes))
    answers = calls(specimens, scaled, known, unlike)
    return [
        {
            "specimen": name,
            "target": classes[target],
            "cells": one.cells,
            "unlike": one.unlike,
            "output": classes[one.pattern or 0],
            "probability": round(one.probability, 6),
            "second": None if one.second is None else classes[one.second],
            "set": None if one.members is None else [classes[c] for c in one.members],
            "reason": one.reason,
            "shares": dict(zip(classes, one.shares.round(6).tolist(), strict=True)),
            "intervals": dict(zip(classes, _ends(one), strict=True)),
            "same_pattern": (same := steadiness(scaled[specimens == name])),
            "cells_needed": needed_by(same, one.cells),
        }
        for target, (name, one) in zip(truth, answers.items(), strict=True)
    ]


def curve_record(called: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """`called_against_error` of the specimens of `calls_record`, for result.json."""
    sure = np.array([one["probability"] for one in called], np.float64)
    right = np.array([one["output"] == one["target"] for one in called], np.float64)
    curve = called_against_error(sure, right, np.ones(len(called)))
    return [[round(float(value), 6) for value in point] for point in curve]


def _ends(one: Call) -> list[list[float]]:
    """Of the interval of each pattern's share."""
    return [[round(float(low), 6), round(float(high), 6)]
            for low, high in zip(one.lows, one.highs, strict=True)]  # fmt: skip


def called_against_error(
    probabilities: FloatArray, right: FloatArray, weights: FloatArray
) -> FloatArray:
    """How the error grows with the share of specimens that the machine calls, the surest first.

    Args:
        probabilities: of the calls, shape (S,).
        right: whether each is right, shape (S,).
        weights: what each counts, shape (S,).

    Returns:
        Share of specimens called and error among them, one row a probability that some have as
        their least, shape (P, 2).
    """
    order = np.argsort(-probabilities, kind="stable")
    counted = np.cumsum(weights[order])
    wrong = np.cumsum((weights * (1 - right))[order])
    last = np.append(np.diff(probabilities[order]) != 0, True)  # of equal ones all or none
    return np.asarray(np.stack([counted / counted[-1], wrong / counted], axis=1)[last])
