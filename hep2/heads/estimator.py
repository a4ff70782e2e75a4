"""What the heads that are no networks have in common: training cells in, probabilities out."""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hep2.data.fold import Fold

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
InnerFolds = list[tuple[Labels, Labels]]  # rows to learn from, rows held out


@dataclass(frozen=True)
class TrainingCells:
    """What a head may learn from.

    Attributes:
        features: shape (N, D).
        labels: indices of patterns, shape (N,).
        classes: how many patterns there are.
        folds: inner folds that choose hyper-parameters; none where there are too few cells.
        class_weights: of each pattern, for heads that can weigh; None for equal ones.
    """

    features: Matrix
    labels: Labels
    classes: int
    folds: InnerFolds = field(default_factory=list)
    class_weights: list[float] | None = None


class Estimator(Protocol):
    """A classifier; the constructor's arguments are its settings and grids."""

    chosen: dict[str, Any]  # what the inner folds chose, for result.json

    def fit(self, cells: TrainingCells) -> None:
        """Choose hyper-parameters on the inner folds, then learn from all training cells."""

    def probabilities(self, features: Matrix) -> Probabilities:
        """Class probabilities, shape (N, classes), rows sum to 1."""
        ...


def inner_folds(fold: Fold, count: int) -> InnerFolds:
    """Folds of the training cells, numbered by their place in `fold.split.train`.

    They hold out what the outer split holds out: whole specimens, or single cells where the
    protocol is leaky.

    Args:
        fold: validation cells take no part.
        count: at most so many; fewer where there are fewer specimens.
    """
    import warnings

    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    train = fold.split.train
    labels, specimens = fold.cells.labels[train], fold.cells.specimens[train]
    leaky = fold.split.leaky
    count = min(count, int(np.bincount(labels).max()) if leaky else len(np.unique(specimens)))
    if count < 2:
        return []
    kind: Any = StratifiedKFold if leaky else StratifiedGroupKFold
    splitter = kind(count, shuffle=True, random_state=0)

    with warnings.catch_warnings():
        # A pattern of fewer specimens than folds is held out in fewer of them, as it must be.
        warnings.filterwarnings("ignore", "The least populated class")
        groups = None if leaky else specimens
        return list(splitter.split(np.empty(len(train)), labels, groups))


def in_columns(shares: Probabilities, present: Labels, classes: int) -> Probabilities:
    """Spread the columns of the patterns that training had over all patterns; 0 elsewhere."""
    table = np.zeros((len(shares), classes))
    table[:, present] = shares
    return table


def softmax(values: Probabilities) -> Probabilities:
    """Softmax over the last axis."""
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
