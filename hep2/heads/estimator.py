"""Heads that are not networks: training cells in, probabilities out; any of scikit-learn's."""

import copy
import itertools
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hep2.data.fold import Fold
from hep2.errors import HEp2Error, whole
from hep2.metrics import confusion_counts, mca

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
InnerFolds = list[tuple[Labels, Labels]]  # rows to learn from, rows held out
HeldOut = tuple[Labels, Labels]  # of cells held out: labels, outputs
Grid = Mapping[str, Sequence[Any]]  # values to try for each setting
Settings = dict[str, Any]  # one value of each


@dataclass(frozen=True)
class TrainingCells:
    """What a head may learn from."""

    features: Matrix  # shape (N, D)
    labels: Labels  # indices of patterns, shape (N,)
    classes: int  # how many patterns there are
    folds: InnerFolds = field(default_factory=list)  # none where there are too few cells
    class_weights: list[float] | None = None  # for heads that can weigh; None: equal ones


class Estimator(Protocol):
    """A classifier; the constructor's arguments are its settings and grids."""

    chosen: dict[str, Any]  # what the inner folds chose, for result.json

    def fit(self, cells: TrainingCells) -> None:
        """Choose hyper-parameters on the inner folds, then learn from all training cells."""

    def probabilities(self, features: Matrix) -> Probabilities:
        """Class probabilities, shape (N, classes), rows sum to 1."""
        ...


def refitted(estimator: Estimator, cells: TrainingCells) -> Estimator:
    """The same with the settings that it has chosen, learned from other cells alone."""
    other: Any = copy.copy(estimator)
    other.grid = {name: [estimator.chosen[name]] for name in getattr(estimator, "grid", {})}
    other.fit(replace(cells, folds=[]))
    fitted: Estimator = other
    return fitted


class Searched(ABC):
    """A scikit-learn classifier whose settings have the highest mean MCA over the inner folds."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.chosen: dict[str, Any] = {}

    @abstractmethod
    def fitted(self, settings: Settings, cells: TrainingCells, rows: Labels) -> Any:
        """A fresh classifier that has learned from some rows of the training cells."""

    def fit(self, cells: TrainingCells) -> None:
        """Choose settings, then learn from all training cells."""

        def held_out(settings: Settings) -> Iterator[HeldOut]:
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
    """Any classifier of scikit-learn that gives probabilities, with a grid of its settings.

    Class weights of the stage reach it where it has a setting `class_weight`.

    Raises:
        HEp2Error: it gives no probabilities, or the grid is faulty; in `fit`: it refuses a setting.
    """

    def __init__(self, classifier: Any, grid: Grid) -> None:
        if not hasattr(classifier, "predict_proba"):
            raise HEp2Error(
                f"head.estimator.classifier={classifier} has no predict_proba: choose a classifier "
                "that gives probabilities, e.g. sklearn.ensemble.RandomForestClassifier"
            )
        name, known = type(classifier).__name__, classifier.get_params()
        if not isinstance(grid, Mapping):
            raise HEp2Error(
                f"head.estimator.grid={grid} must name settings of {name} and the values to try, "
                "for example {max_features: [sqrt, 0.1]}; {} tries nothing"
            )
        for key, values in grid.items():
            if key not in known:
                raise HEp2Error(
                    f"head.estimator.grid: {name} has no setting {key}; it has {', '.join(known)}"
                )
            if not isinstance(values, list) or not values or not _storable(values):
                raise HEp2Error(
                    f"head.estimator.grid: {key}={values} must be a list of numbers or words to try"
                )
        super().__init__(grid)
        self.classifier = classifier

    def fitted(self, settings: Settings, cells: TrainingCells, rows: Labels) -> Any:
        """A copy with these settings; one pattern alone is not learned but named."""
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
            name, reason = type(self.classifier).__name__, " ".join(str(error).split())
            raise HEp2Error(
                f"head.estimator: {name} cannot learn with {settings}: {reason}"
            ) from error


def _storable(value: Any) -> bool:
    """Whether result.json can keep a value: a word, a finite number, true, null, lists of them."""
    if isinstance(value, list):
        return all(map(_storable, value))
    if isinstance(value, int | float):
        return math.isfinite(value)
    return isinstance(value, str | None)


def combinations(grid: Grid) -> list[Settings]:
    """Every combination of the values of a grid, in its order: the last name changes first."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def grid_search(
    grid: Grid, cells: TrainingCells, held_out: Callable[[Settings], Iterable[HeldOut]]
) -> tuple[Settings, float | None]:
    """The settings of a grid with the highest mean MCA over inner folds, and that MCA.

    Of equal ones it is the first. Without inner folds it is the first of all, and there is no MCA.
    `held_out` gives, for each inner fold that settings can be tried on, what comes of them.

    Raises:
        HEp2Error: a setting has no value to try.
    """
    candidates = combinations(grid)
    if lacking := [key for key, values in grid.items() if not values]:
        raise HEp2Error(f"head.estimator.{lacking[0]} is empty: give one value or more to try")
    if not cells.folds:
        return candidates[0], None
    scores = []
    for settings in candidates:
        counts = [confusion_counts(*made, cells.classes) for made in held_out(settings)]
        scores.append(float(np.mean([mca(count) for count in counts])) if counts else 0.0)
    best = int(np.argmax(scores))
    return candidates[best], scores[best]


def inner_folds(fold: Fold, count: int) -> InnerFolds:
    """Folds of the training cells, numbered by their place in `fold.split.train`.

    At most `count`, fewer where there are fewer specimens. They hold out what the outer split holds
    out: whole specimens, or single cells where the protocol is leaky.

    Raises:
        HEp2Error: the count is not a whole number.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if not whole(count, 0):
        raise HEp2Error(f"stage.inner_folds={count} must be a whole number, 0 or more")
    train, leaky = fold.split.train, fold.split.leaky
    labels, specimens = fold.cells.labels[train], fold.cells.specimens[train]
    count = min(count, int(np.bincount(labels).max()) if leaky else len(np.unique(specimens)))
    if count < 2:
        return []
    kind: Any = StratifiedKFold if leaky else StratifiedGroupKFold
    splitter = kind(count, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # A pattern of fewer specimens than folds is held out in fewer of them, as it must be.
        warnings.filterwarnings("ignore", "The least populated class")
        return list(splitter.split(labels, labels, None if leaky else specimens))


def in_columns(shares: Probabilities, present: Labels, classes: int) -> Probabilities:
    """Spread the columns of the patterns that training had over all patterns; 0 elsewhere."""
    table = np.zeros((len(shares), classes))
    table[:, present] = shares
    return table
