"""Heads that are not networks: training cells in, probabilities out; any of scikit-learn's."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hep2.data.fold import Fold
from hep2.errors import HEp2Error
from hep2.metrics import confusion_counts, mca

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
InnerFolds = list[tuple[Labels, Labels]]  # rows to learn from, rows held out
Grid = Mapping[str, Sequence[Any]]  # values to try for each setting
Settings = dict[str, Any]  # one value of each


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


class Searched(ABC):
    """A scikit-learn classifier whose settings have the highest mean MCA over the inner folds.

    Args:
        grid: candidates for each setting; {}: there is nothing to choose.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.chosen: dict[str, Any] = {}

    @abstractmethod
    def fitted(self, settings: Settings, cells: TrainingCells, rows: Labels) -> Any:
        """A fresh classifier that has learned from some rows of the training cells."""

    def fit(self, cells: TrainingCells) -> None:
        """Choose settings, then learn from all training cells."""

        def held_out(settings: Settings) -> Iterator[tuple[Labels, Labels]]:
            for learning, held in cells.folds:
                model = self.fitted(settings, cells, learning)
                yield cells.labels[held], model.predict(cells.features[held])

        best, score = grid_search(self.grid, cells, held_out)
        self.chosen = best | {"inner_mca": score}
        self.classes = cells.classes
        self.model = self.fitted(best, cells, np.arange(len(cells.labels)))

    def probabilities(self, features: Matrix) -> Probabilities:
        """The classifier's own; 0 for patterns that training lacked."""
        return in_columns(self.model.predict_proba(features), self.model.classes_, self.classes)


class Classifier(Searched):
    """Any classifier of scikit-learn that gives probabilities.

    Class weights of the stage reach it where it has a setting `class_weight`.

    Args:
        classifier: not fitted.
        grid: lists of values for some of its settings; {} tries nothing.

    Raises:
        HEp2Error: the classifier gives no probabilities, or the grid is faulty.
    """

    def __init__(self, classifier: Any, grid: Grid) -> None:
        if not hasattr(classifier, "predict_proba"):
            raise HEp2Error(
                f"head.estimator.classifier={classifier} has no predict_proba: choose a classifier "
                "that gives probabilities, e.g. sklearn.ensemble.RandomForestClassifier"
            )
        _check(grid, type(classifier).__name__, classifier.get_params())
        super().__init__(grid)
        self.classifier = classifier

    def fitted(self, settings: Settings, cells: TrainingCells, rows: Labels) -> Any:
        """A copy of the classifier with these settings; one pattern alone is not learned but named.

        Raises:
            HEp2Error: the classifier refuses the settings.
        """
        from sklearn.base import clone
        from sklearn.dummy import DummyClassifier

        features, labels = cells.features[rows], cells.labels[rows]
        if len(np.unique(labels)) < 2:  # which some classifiers refuse
            return DummyClassifier(strategy="prior").fit(features, labels)
        if cells.class_weights is not None and "class_weight" in self.classifier.get_params():
            settings = {"class_weight": dict(enumerate(cells.class_weights))} | settings
        try:
            return clone(self.classifier).set_params(**settings).fit(features, labels)
        except (ValueError, TypeError) as error:
            raise HEp2Error(
                f"head.estimator: {type(self.classifier).__name__} cannot learn with {settings}: "
                f"{' '.join(str(error).split())}"
            ) from error


def _check(grid: Any, name: str, known: Iterable[str]) -> None:
    """Refuse a grid that a classifier of that name, with those settings, cannot try."""
    if not isinstance(grid, Mapping):
        raise HEp2Error(
            f"head.estimator.grid={grid} must name settings of {name} and the values to try, for "
            "example {max_features: [sqrt, 0.1]}; {} tries nothing"
        )
    for key, values in grid.items():
        if key not in known:
            raise HEp2Error(
                f"head.estimator.grid: {name} has no setting {key}; it has {', '.join(known)}"
            )
        if not isinstance(values, list) or not values or not all(map(_plain, values)):
            raise HEp2Error(
                f"head.estimator.grid: {key}={values} must be a list of numbers or words to try"
            )


def _plain(value: Any) -> bool:
    """Whether result.json can keep a value: a word, a finite number, true, null, lists of them."""
    if isinstance(value, list):
        return all(map(_plain, value))
    return (
        value is None
        or isinstance(value, str)
        or (isinstance(value, int | float) and math.isfinite(value))
    )


def combinations(grid: Grid) -> list[Settings]:
    """Every combination of the values of a grid, in its order: the last name changes first."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def grid_search(
    grid: Grid,
    cells: TrainingCells,
    held_out: Callable[[Settings], Iterable[tuple[Labels, Labels]]],
) -> tuple[Settings, float | None]:
    """The settings of a grid with the highest mean MCA over inner folds, and that MCA.

    Of equal ones it is the first. Without inner folds it is the first of all, and there is no MCA.

    Args:
        grid: values to try, by name.
        cells: with the inner folds.
        held_out: of some settings: for each inner fold, labels and outputs of cells held out.
    """
    candidates = combinations(grid)
    if not cells.folds:
        return candidates[0], None
    scores = []
    for settings in candidates:
        folds = [
            mca(confusion_counts(labels, outputs, cells.classes))
            for labels, outputs in held_out(settings)
        ]
        scores.append(float(np.mean(folds)) if folds else 0.0)
    best = int(np.argmax(scores))
    return candidates[best], scores[best]


def inner_folds(fold: Fold, count: int) -> InnerFolds:
    """Folds of the training cells, numbered by their place in `fold.split.train`.

    They hold out what the outer split holds out: whole specimens, or single cells where the
    protocol is leaky.

    Args:
        fold: validation cells take no part.
        count: at most this many; fewer where there are fewer specimens.
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
