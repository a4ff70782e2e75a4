"""k nearest neighbours, and the majority class."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from hep2.heads.estimator import Matrix, Probabilities, TrainingCells, in_columns
from hep2.metrics import confusion_counts, mca


class NearestNeighbours:
    """k nearest neighbours of standardised features; k and metric by mean MCA over inner folds.

    Probabilities are shares of the neighbours, nearer ones counting more (1 / distance).

    Args:
        k: candidates for the number of neighbours; those above the number of cells are lowered.
        metric: candidates: "euclidean", "cosine" or any other of scikit-learn's.
    """

    def __init__(self, k: Sequence[int], metric: Sequence[str]) -> None:
        self.grid = list(itertools.product(k, metric))
        self.chosen: dict[str, Any] = {}

    def fit(self, cells: TrainingCells) -> None:
        """Choose k and the metric, then keep all training cells."""
        self.classes = cells.classes
        best, score = self.grid[0], None
        if cells.folds:
            scores = [self._score(cells, *pair) for pair in self.grid]
            best, score = self.grid[int(np.argmax(scores))], max(scores)
        self.chosen = {"k": best[0], "metric": best[1], "inner_mca": score}
        self.model = _neighbours(*best, cells.features, cells.labels)

    def probabilities(self, features: Matrix) -> Probabilities:
        """Shares of the neighbours."""
        return in_columns(self.model.predict_proba(features), self.model.classes_, self.classes)

    def _score(self, cells: TrainingCells, k: int, metric: str) -> float:
        scores = []
        for learning, held in cells.folds:
            model = _neighbours(k, metric, cells.features[learning], cells.labels[learning])
            outputs = model.predict(cells.features[held])
            scores.append(mca(confusion_counts(cells.labels[held], outputs, cells.classes)))
        return float(np.mean(scores))


def _neighbours(k: int, metric: str, features: Matrix, labels: Any) -> Any:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    nearest = KNeighborsClassifier(min(k, len(labels)), weights="distance", metric=metric)
    return make_pipeline(StandardScaler(), nearest).fit(features, labels)


class MajorityClass:
    """The commonest pattern of the training cells, whatever the cell: what chance is worth.

    Probabilities are the shares of the patterns in training.
    """

    def __init__(self) -> None:
        self.chosen: dict[str, Any] = {}

    def fit(self, cells: TrainingCells) -> None:
        """Count."""
        from sklearn.dummy import DummyClassifier

        self.classes = cells.classes
        self.model = DummyClassifier(strategy="prior").fit(cells.features[:, :1], cells.labels)

    def probabilities(self, features: Matrix) -> Probabilities:
        """The same for every cell."""
        shares = self.model.predict_proba(features[:, :1])
        return in_columns(shares, self.model.classes_, self.classes)
