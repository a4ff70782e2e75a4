"""What is measured on the test cells of one run: pure numpy, on class indices and probabilities.

Everything that is a function of counts takes a confusion matrix of shape (..., C, C) with
rows = OUTPUT class and columns = TARGET class, as in the paper's Fig. 1 (scikit-learn's matrix is
the transpose). Leading dimensions are resamples, so the bootstrap uses these very functions.
Nothing to measure (no cell, no class) is NaN, never zero.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
StringArray = NDArray[np.str_]
ConfusionStatistic = Callable[[FloatArray], FloatArray]

CALIBRATION_BINS = 15


def confusion_counts(targets: IntArray, outputs: IntArray, classes: int) -> FloatArray:
    """Count the cells of each (output class, target class). Class indices (N,) -> (C, C)."""
    return group_counts(outputs, targets, (classes, classes)).astype(np.float64)


def recalls(confusion: FloatArray) -> FloatArray:
    """Share of each target class's cells that were given that class. (..., C, C) -> (..., C)."""
    return _ratio(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-2))


def aca(confusion: FloatArray) -> FloatArray:
    """Overall accuracy: the share of all cells that were given their target class.

    HEp-2 papers call it average classification accuracy (ACA). (..., C, C) -> (...).
    """
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def mca(confusion: FloatArray) -> FloatArray:
    """Mean class accuracy: the mean of the recalls of the classes present in the targets.

    The metric of the I3A/ICPR contests; scikit-learn's `balanced_accuracy_score`.
    (..., C, C) -> (...).
    """
    return _mean_of_defined(recalls(confusion))


def macro_f1(confusion: FloatArray) -> FloatArray:
    """Mean over classes of F1 = 2 TP / (cells of the target class + cells of the output class).

    The mean runs over the classes present in targets or outputs, so a class that was only ever an
    output counts as zero: scikit-learn's `f1_score(average="macro")` without `labels`.
    (..., C, C) -> (...).
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _mean_of_defined(_ratio(2 * hits, confusion.sum(axis=-2) + confusion.sum(axis=-1)))


def kappa(confusion: FloatArray) -> FloatArray:
    """Cohen's kappa: (observed - chance agreement) / (1 - chance agreement).

    Cohen, Educational and Psychological Measurement 20 (1960) 37-46. NaN where chance agreement is
    complete (one class alone in targets and outputs). (..., C, C) -> (...).
    """
    by_chance = (confusion.sum(axis=-2) * confusion.sum(axis=-1)).sum(axis=-1)
    chance = _ratio(by_chance, confusion.sum(axis=(-2, -1)) ** 2)
    return _ratio(aca(confusion) - chance, 1 - chance)


def auroc(targets: IntArray, probabilities: FloatArray) -> float:
    """Area under the ROC curve, one class against the rest, mean over classes with both sides.

    The area is the chance that a cell of the class has a higher probability of it than a cell of
    another class, ties counting half (Hanley and McNeil, Radiology 143 (1982) 29-36); it is
    computed from mid-ranks. Target class indices (N,), probabilities (N, C).
    """
    areas = [_area(targets == c, column) for c, column in enumerate(probabilities.T)]
    return float(_mean_of_defined(np.array(areas)))


def calibration_error(
    targets: IntArray, outputs: IntArray, probabilities: FloatArray, bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error: mean gap between confidence and accuracy, weighted by cells.

    Equal-width bins over [0, 1], open below and closed above: equations 2, 3 and 5 of Guo et al.,
    On Calibration of Modern Neural Networks, ICML 2017. Confidence is the probability of the
    output class (the greatest one, except for classifiers whose call is not their arg max).
    """
    if len(targets) == 0:
        return float("nan")
    confidence = np.take_along_axis(probabilities, outputs[:, None], axis=1)[:, 0]
    which = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    surplus = confidence - (targets == outputs)
    return float(np.abs(np.bincount(which, weights=surplus, minlength=bins)).sum() / len(targets))


def specimen_accuracy(
    specimens: StringArray, targets: IntArray, outputs: IntArray, probabilities: FloatArray
) -> tuple[float, float]:
    """Accuracy of one call a specimen: by majority of its cells, and by its mean probabilities.

    A specimen's target is its most frequent target class. A tied majority goes to the tied class
    with the higher mean probability; any tie left goes to the class that comes first. The
    arguments are of cells: names and class indices (N,), probabilities (N, C).
    """
    _, index, cells = np.unique(specimens, return_inverse=True, return_counts=True)
    mean_probability = group_means(index, cells, probabilities)
    labels, votes = (group_counts(index, calls, mean_probability.shape) for calls in
                     (targets, outputs))  # fmt: skip
    tied = votes == votes.max(axis=1, keepdims=True)
    majority = np.where(tied, mean_probability, -1.0).argmax(axis=1)
    by_mean, truth = mean_probability.argmax(axis=1), labels.argmax(axis=1)
    return float((majority == truth).mean()), float((by_mean == truth).mean())


def group_means(owner: IntArray, sizes: IntArray, values: FloatArray) -> FloatArray:
    """Means of the rows of each group: owner (N,), sizes (G,), values (N, C) -> (G, C)."""
    total = np.zeros((len(sizes), values.shape[1]))
    np.add.at(total, owner, values)
    return np.asarray(total / sizes[:, None])


def group_counts(owner: IntArray, classes: IntArray, shape: tuple[int, ...]) -> IntArray:
    """How often each class stands in each group: (N,), class indices (N,) -> `shape`, (G, C)."""
    counts = np.bincount(owner * shape[1] + classes, minlength=shape[0] * shape[1])
    return np.asarray(counts.reshape(shape))


class Metric(NamedTuple):
    """A metric of a classifier: one line of METRICS puts it into result.json and into the report.

    A pooled one is a function of the confusion matrix with values in [0, 1]: the headline tables
    show it, also pooled over folds with an interval over specimens. The others are in the
    secondary table.
    """

    name: str  # in result.json and results.csv
    title: str  # in the heading of a table
    scale: int  # 100 where tables show per cent, 1 where they show the value itself
    function: Callable[..., Any]
    takes: tuple[str, ...] = ("confusion",)  # or names of arguments of `summarise`
    pooled: bool = False


_CALLS = ("targets", "outputs", "probabilities")
METRICS = (
    Metric("aca", "ACA", 100, aca, pooled=True),
    Metric("mca", "MCA", 100, mca, pooled=True),
    Metric("macro_f1", "macro-F1", 100, macro_f1, pooled=True),
    Metric("kappa", "kappa", 1, kappa),
    Metric("auroc", "AUROC", 1, auroc, ("targets", "probabilities")),
    Metric("ece", "ECE", 1, calibration_error, _CALLS),
    Metric("specimen_majority", "specimens by majority", 1,
           lambda *calls: specimen_accuracy(*calls)[0], ("specimens", *_CALLS)),
    Metric("specimen_mean_probability", "by mean probability", 1,
           lambda *calls: specimen_accuracy(*calls)[1], ("specimens", *_CALLS)),
)  # fmt: skip
RANKED_BY = "mca"  # methods are ranked and compared by it, and it comes first in headline tables
HEADLINE = sorted((m for m in METRICS if m.pooled), key=lambda metric: metric.name != RANKED_BY)
SECONDARY = [metric for metric in METRICS if not metric.pooled]


def summarise(
    targets: IntArray,
    outputs: IntArray,
    probabilities: FloatArray,
    classes: int,
    specimens: StringArray | None = None,
) -> dict[str, float]:
    """Compute METRICS, by name; those that take specimens only where they are known (not None).

    Names and class indices (N,), probabilities (N, C).
    """
    given: dict[str, Any] = {
        "confusion": confusion_counts(targets, outputs, classes),
        "targets": targets,
        "outputs": outputs,
        "probabilities": probabilities,
    }
    if specimens is not None:
        given["specimens"] = specimens
    return {
        metric.name: float(metric.function(*map(given.get, metric.takes)))
        for metric in METRICS
        if given.keys() >= set(metric.takes)
    }


def by_group(
    groups: StringArray, targets: IntArray, outputs: IntArray, classes: int
) -> dict[str, dict[str, float]]:
    """Number of cells, ACA and MCA of each group of cells that has a name. All of shape (N,)."""
    found = {}
    for name in sorted(set(groups.tolist()) - {""}):
        own = groups == name
        confusion = confusion_counts(targets[own], outputs[own], classes)
        found[name] = {"cells": int(own.sum()), "aca": float(aca(confusion)),
                       "mca": float(mca(confusion))}  # fmt: skip
    return found


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, np.nan, np.divide(above, below))


def _mean_of_defined(values: FloatArray) -> FloatArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, as it should
        return np.asarray(np.nanmean(values, axis=-1))


def _area(positive: NDArray[np.bool_], scores: FloatArray) -> float:
    wins, losses = int(positive.sum()), int((~positive).sum())
    if wins == 0 or losses == 0:
        return float("nan")
    _, index, ties = np.unique(scores, return_inverse=True, return_counts=True)
    mid_rank = np.cumsum(ties) - (ties - 1) / 2
    return float((mid_rank[index][positive].sum() - wins * (wins + 1) / 2) / (wins * losses))


class Matching(NamedTuple):
    """Pattern of each cluster, shape (clusters,), and the share of cells that it is right for."""

    patterns: IntArray
    accuracy: float


def match(targets: IntArray, clusters: IntArray, count: int) -> Matching:
    """Give every cluster a pattern of its own, so that most cells are right (Hungarian method).

    Its accuracy is the clustering accuracy of the literature (Yang et al. 2010). It looks at the
    labels that it is measured on: it is not the accuracy of a classifier. Indices of patterns and
    of clusters, shape (N,), both below `count`.
    """
    from scipy.optimize import linear_sum_assignment

    together = group_counts(clusters, targets, (count, count))  # (cluster, pattern)
    rows, patterns = linear_sum_assignment(together, maximize=True)
    return Matching(patterns.astype(np.int64), float(together[rows, patterns].sum() / len(targets)))


def agreement(targets: IntArray, clusters: IntArray) -> dict[str, float]:
    """Normalised mutual information and adjusted Rand index, which need no matching."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        "nmi": float(normalized_mutual_info_score(targets, clusters)),
        "ari": float(adjusted_rand_score(targets, clusters)),
    }
