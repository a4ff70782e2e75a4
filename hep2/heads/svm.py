"""Support vector machine with an RBF kernel."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hep2.heads.estimator import Labels, Matrix, Probabilities, TrainingCells, in_columns, softmax

Kernel = NDArray[np.float32]


class SVM:
    """RBF-SVM on standardised features; C and gamma by mean MCA over the inner folds.

    The squared distances between cells are computed once, and every kernel is made of them:
    training on a kernel costs libsvm nothing for the length of a feature vector. Probabilities are
    the softmax of the one-against-rest decision values (whose greatest is the SVM's own answer),
    at the temperature that is best for the cells held out in the inner folds.

    Args:
        C: candidates for the penalty of a cell on the wrong side.
        gamma: candidates for the kernel's width, in units of 1 / D (D: features that vary), which
            is scikit-learn's gamma="scale" for standardised features.
    """

    def __init__(self, C: Sequence[float], gamma: Sequence[float]) -> None:
        self.grid = list(itertools.product(C, gamma))
        self.chosen: dict[str, Any] = {}

    def fit(self, cells: TrainingCells) -> None:
        """Choose C and gamma, then learn from all training cells."""
        from sklearn.preprocessing import StandardScaler

        self.classes = cells.classes
        self.scaler = StandardScaler().fit(cells.features)
        self.support = self._standardised(cells.features)
        self.varying = max(int((self.scaler.var_ > 0).sum()), 1)
        squares = self._squares(self.support)
        if cells.folds and len(np.unique(cells.labels)) > 1:
            scores = [self._score(squares, cells, *pair) for pair in self.grid]
            best = self.grid[int(np.argmax(scores))]  # of equal ones the first: the smoothest
            self.chosen = {"C": best[0], "gamma": best[1], "inner_mca": max(scores)}
        else:
            best = self.grid[0]
            self.chosen = {"C": best[0], "gamma": best[1], "inner_mca": None}
        self.penalty, self.gamma = best
        kernel = self._kernel(squares, self.gamma)
        self.chosen["temperature"] = self.temperature = self._temperature(kernel, cells)
        self.machine = self._machine(cells, self.penalty)
        if self.machine is not None:
            self.machine.fit(kernel, cells.labels)
        self.present = np.unique(cells.labels)

    def probabilities(self, features: Matrix) -> Probabilities:
        """Softmax of the decision values."""
        kernel = self._kernel(self._squares(self._standardised(features)), self.gamma)
        if self.machine is None:  # training had one pattern
            return in_columns(np.ones((len(features), 1)), self.present, self.classes)
        shares = softmax(_decisions(self.machine, kernel) / self.temperature)
        return in_columns(shares, self.present, self.classes)

    def _standardised(self, features: Matrix) -> Matrix:
        return np.asarray(self.scaler.transform(features), dtype=np.float32)

    def _squares(self, features: Matrix) -> Kernel:
        """Squared distances to the training cells, shape (N, training cells)."""
        from sklearn.metrics.pairwise import euclidean_distances

        return np.asarray(euclidean_distances(features, self.support, squared=True), np.float32)

    def _kernel(self, squares: Kernel, gamma: float) -> Kernel:
        return np.asarray(np.exp(squares * np.float32(-gamma / self.varying)))

    def _machine(self, cells: TrainingCells, penalty: float) -> Any:
        from sklearn.svm import SVC

        if len(np.unique(cells.labels)) < 2:
            return None
        weights = None if cells.class_weights is None else dict(enumerate(cells.class_weights))
        return SVC(
            C=penalty, kernel="precomputed", class_weight=weights, break_ties=True, cache_size=500
        )

    def _held_out(
        self, kernel: Kernel, cells: TrainingCells, penalty: float
    ) -> list[tuple[Labels, Probabilities, Labels]]:
        """Per inner fold: labels of the cells held out, decision values, their columns."""
        answers = []
        for learning, held in cells.folds:
            machine = self._machine(cells, penalty)
            if len(np.unique(cells.labels[learning])) < 2:
                continue
            machine.fit(kernel[np.ix_(learning, learning)], cells.labels[learning])
            values = _decisions(machine, kernel[np.ix_(held, learning)])
            answers.append((cells.labels[held], values, machine.classes_))
        return answers

    def _score(self, squares: Kernel, cells: TrainingCells, penalty: float, gamma: float) -> float:
        from hep2.metrics import confusion_counts, mca

        kernel = self._kernel(squares, gamma)
        scores = [
            mca(confusion_counts(labels, columns[values.argmax(axis=1)], cells.classes))
            for labels, values, columns in self._held_out(kernel, cells, penalty)
        ]
        return float(np.mean(scores)) if scores else 0.0

    def _temperature(self, kernel: Kernel, cells: TrainingCells) -> float:
        """The temperature with the lowest cross-entropy of the cells held out; 1 without any."""
        from scipy.optimize import minimize_scalar

        known = [
            (values[seen], np.searchsorted(columns, labels[seen]))
            for labels, values, columns in self._held_out(kernel, cells, self.penalty)
            for seen in [np.isin(labels, columns)]
        ]
        if not known:
            return 1.0

        def cross_entropy(log_temperature: float) -> float:
            losses = [
                -np.log(softmax(values / np.exp(log_temperature))[np.arange(len(rows)), rows])
                for values, rows in known
            ]
            return float(np.concatenate(losses).mean())

        found = minimize_scalar(cross_entropy, bounds=(-3, 3), method="bounded")
        return float(np.exp(found.x))


def _decisions(machine: Any, kernel: Kernel) -> Probabilities:
    """One-against-rest decision values, shape (N, patterns in training)."""
    values = np.asarray(machine.decision_function(kernel))
    return np.stack([-values, values], axis=1) if values.ndim == 1 else values
