"""k nearest neighbours, and the majority class."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hep2.errors import HEp2Error, check_types
from hep2.heads.estimator import Labels, Matrix, Probabilities, Searched, Settings, TrainingCells

# Those of scikit-learn that bear real numbers and need no setting of their own.
METRICS = {"braycurtis", "canberra", "chebyshev", "correlation", "cosine", "euclidean", "l1", "l2",
           "manhattan", "minkowski", "sqeuclidean"}  # fmt: skip


class NearestNeighbours(Searched):
    """k nearest neighbours of standardised features; k and metric by mean MCA over inner folds.

    Probabilities are shares of the neighbours, nearer ones counting more (1 / distance).

    Args:
        k: candidates for the number of neighbours; those above the number of cells are lowered.
        metric: candidates, of METRICS.

    Raises:
        HEp2Error: a candidate cannot be.
    """

    def __init__(self, k: Sequence[int], metric: Sequence[str]) -> None:
        check_types("head.estimator.", NearestNeighbours, {"k": k}, least=1)
        names = isinstance(metric, list | tuple) and {*map(str, metric)}
        if not names or not names <= METRICS:
            raise HEp2Error(
                f"head.estimator.metric={metric} must be a list of {', '.join(sorted(METRICS))}"
            )
        super().__init__({"k": k, "metric": metric})

    def fitted(self, settings: Settings, cells: TrainingCells, rows: Labels) -> Any:
        """The neighbours of a new cell are sought among these rows."""
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        k, metric = min(settings["k"], len(rows)), settings["metric"]
        nearest = KNeighborsClassifier(k, weights="distance", metric=metric)
        model = make_pipeline(StandardScaler(), nearest)
        return model.fit(cells.features[rows], cells.labels[rows])


class MajorityClass:
    """The commonest pattern of the training cells, whatever the cell: what chance is worth.

    Probabilities are the shares of the patterns in training.
    """

    def __init__(self) -> None:
        self.chosen: dict[str, Any] = {}

    def fit(self, cells: TrainingCells) -> None:
        """Count."""
        counts = np.bincount(cells.labels, minlength=cells.classes)
        self.shares = counts / len(cells.labels)

    def probabilities(self, features: Matrix) -> Probabilities:
        """The same for every cell."""
        return np.tile(self.shares, (len(features), 1))
