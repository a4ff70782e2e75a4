"""Runs of one method put together: by (data, protocol, method), then fold, then seed."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hep2.errors import HEp2Error
from hep2.evaluation.metrics import FloatArray, StringArray
from hep2.evaluation.runs import Run
from hep2.evaluation.statistics import specimen_confusions


@dataclass(frozen=True)
class Group:
    """The finished runs of one method on one data set under one protocol, by fold, then seed."""

    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """Any of them: what is asked of it is the same for all."""
        return self.runs[0]

    @property
    def by_fold(self) -> dict[int, list[Run]]:
        """The runs of each finished fold, one a seed."""
        folds: dict[int, list[Run]] = {}
        for run in self.runs:
            folds.setdefault(run.fold, []).append(run)
        return folds

    @property
    def specimens_known(self) -> bool:
        """Whether every test cell names its specimen."""
        return all(run.cells.known_specimens is not None for run in self.runs)

    @property
    def missing_folds(self) -> list[int]:
        """Folds of the protocol that no finished run covers."""
        return sorted(set(range(self.first.folds)) - {run.fold for run in self.runs})


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Group the runs that classify by (data, protocol, method), in that order.

    Raises:
        HEp2Error: runs that would be pooled differ in data key, classes or number of folds, or two
            are of the same fold and seed. The message names both directories.
    """
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        if run.predictions is not None:
            groups.setdefault((run.data, run.protocol, run.method), []).append(run)
    for members in groups.values():
        members.sort(key=lambda run: (run.fold, run.seed))
        for earlier, later in pairwise(members):
            _check_poolable(earlier, later)
    return [Group(tuple(groups[key])) for key in sorted(groups)]


def _check_poolable(earlier: Run, later: Run) -> None:
    remedy = "give one of them another name=..., or delete it"
    for what in ("data_key", "classes", "folds", "synthetic", "leaky"):
        here, there = getattr(earlier, what), getattr(later, what)
        if here != there:
            raise HEp2Error(
                f"{earlier.path} and {later.path} cannot be pooled, their {what} differ "
                f"({here} and {there}): {remedy}"
            )
    if (earlier.fold, earlier.seed) == (later.fold, later.seed):
        raise HEp2Error(f"{earlier.path} and {later.path} are the same fold and seed: {remedy}")


def pooled_confusions(group: Group, folds: Iterable[int]) -> tuple[StringArray, FloatArray]:
    """Add up the test cells of several folds, one confusion matrix a specimen.

    The seeds of a fold share its weight, so a fold trained twice counts once. A protocol that tests
    a cell in several folds (`published`) counts it as often, always within its specimen.

    Returns:
        Specimen names, shape (S,), one empty name where they are not known; counts, shape
        (S, C, C), rows = output class.
    """
    by_fold = group.by_fold
    parts = [(run, 1 / len(by_fold[fold])) for fold in folds for run in by_fold[fold]]
    tables = [(run.cells, weight) for run, weight in parts]
    return specimen_confusions(
        np.concatenate([cells.specimens for cells, _ in tables]),
        np.concatenate([cells.targets for cells, _ in tables]),
        np.concatenate([cells.outputs for cells, _ in tables]),
        len(group.first.classes),
        np.concatenate([np.full(len(cells.ids), weight) for cells, weight in tables]),
    )
