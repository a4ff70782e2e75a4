"""Support vector machine with an RBF kernel."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from hep2.errors import HEp2Error
from hep2.heads.estimator import (
    HeldOut,
    Labels,
    Matrix,
    Probabilities,
    Settings,
    TrainingCells,
    grid_search,
    in_columns,
)

Kernel = NDArray[np.float32]
Decisions = tuple[Labels, Probabilities, Labels]  # labels, decision values, patterns of the columns


class SVM:
    """RBF-SVM on standardised features; C and gamma by mean MCA over the inner folds.

    The squared distances between cells are computed once, and every kernel is made of them:
    training on a kernel costs libsvm nothing for the length of a feature vector. Candidates for
    gamma are in units of 1 / D (D: features that vary), which is scikit-learn's gamma="scale" for
    standardised features. Probabilities are the softmax of the one-against-rest decision values
    (whose greatest is the SVM's own answer), at the temperature that is best for the cells held
    out in the inner folds.
    """

    def __init__(self, C: Sequence[float], gamma: Sequence[float]) -> None:
        self.grid = {"C": C, "gamma": gamma}  # of equal ones the first is taken: the smoothest
        for key, values in self.grid.items():
            numbers = isinstance(values, list | tuple) and {*map(type, values)} <= {int, float}
            if not numbers or not values or min(values) <= 0:
                raise HEp2Error(
                    f"head.estimator.{key}={values} must be a list of numbers above 0 to try"
                )
        self.chosen: dict[str, Any] = {}
        self.temperature = 1.0  # as it stays without inner folds

    def fit(self, cells: TrainingCells) -> None:
        """Choose C and gamma, then learn from all training cells."""
        from sklearn.preprocessing import StandardScaler

        self.classes, self.present = cells.classes, np.unique(cells.labels)
        if len(self.present) < 2:  # then there is nothing to choose
            cells = replace(cells, folds=[])
        self.scaler = StandardScaler().fit(cells.features)
        self.support = self._standardised(cells.features)
        self.varying = max(int((self.scaler.var_ > 0).sum()), 1)
        squares = self._squares(self.support)

        def outputs(settings: Settings) -> Iterator[HeldOut]:
            for labels, values, columns in self._held_out(squares, cells, **settings):
                yield labels, columns[values.argmax(axis=1)]

        best, score = grid_search(self.grid, cells, outputs)
        self.gamma = best["gamma"]
        if cells.folds:
            self.temperature = best_temperature(self._held_out(squares, cells, **best))
        self.chosen = best | {"inner_mca": score, "temperature": self.temperature}
        if len(self.present) > 1:
            kernel = self._kernel(squares, self.gamma)
            self.machine = _machine(best["C"], cells).fit(kernel, cells.labels)

    def probabilities(self, features: Matrix) -> Probabilities:
        """Softmax of the decision values."""
        shares = np.ones((len(features), 1))
        if len(self.present) > 1:
            kernel = self._kernel(self._squares(self._standardised(features)), self.gamma)
            shares = softmax(_decisions(self.machine, kernel) / self.temperature, axis=1)
        return in_columns(shares, self.present, self.classes)

    def _standardised(self, features: Matrix) -> Matrix:
        return np.asarray(self.scaler.transform(features), dtype=np.float32)

    def _squares(self, features: Matrix) -> Kernel:
        """Squared distances to the training cells, shape (N, training cells)."""
        from sklearn.metrics.pairwise import euclidean_distances

        return np.asarray(euclidean_distances(features, self.support, squared=True), np.float32)

    def _kernel(self, squares: Kernel, gamma: float) -> Kernel:
        return np.asarray(np.exp(squares * np.float32(-gamma / self.varying)))

    def _held_out(
        self, squares: Kernel, cells: TrainingCells, C: float, gamma: float
    ) -> Iterator[Decisions]:
        """The cells that each inner fold holds out, but where it learns from one pattern alone."""
        kernel = self._kernel(squares, gamma)
        for learning, held in cells.folds:
            if len(np.unique(cells.labels[learning])) > 1:
                learned = kernel[np.ix_(learning, learning)]
                machine = _machine(C, cells).fit(learned, cells.labels[learning])
                values = _decisions(machine, kernel[np.ix_(held, learning)])
                yield cells.labels[held], values, machine.classes_


def best_temperature(folds: Iterator[Decisions]) -> float:
    """The temperature with the lowest cross-entropy of the cells held out; 1 without any.

    Cells of a pattern that their fold did not learn from do not count.
    """
    from scipy.optimize import minimize_scalar

    known = [
        (values[seen], np.searchsorted(columns, labels[seen]))
        for labels, values, columns in folds
        for seen in [np.isin(labels, columns)]
    ]
    if not known:
        return 1.0

    def cross_entropy(log_temperature: float) -> float:
        losses = [
            -np.log(softmax(values / np.exp(log_temperature), axis=1)[np.arange(len(rows)), rows])
            for values, rows in known
        ]
        return float(np.concatenate(losses).mean())

    found = minimize_scalar(cross_entropy, bounds=(-3, 3), method="bounded")
    return float(np.exp(found.x))


def _machine(C: float, cells: TrainingCells) -> Any:
    from sklearn.svm import SVC

    weights = None if cells.class_weights is None else dict(enumerate(cells.class_weights))
    return SVC(C=C, kernel="precomputed", class_weight=weights, break_ties=True, cache_size=500)


def _decisions(machine: Any, kernel: Kernel) -> Probabilities:
    """One-against-rest decision values, shape (N, patterns in training)."""
    values = np.asarray(machine.decision_function(kernel))
    return np.stack([-values, values], axis=1) if values.ndim == 1 else values
