"""Several sources in one data set: trained on one, tested on another, patterns matched by name."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hep2.data.cells import Cells, Indices, short_hash
from hep2.errors import HEp2Error


class Across(NamedTuple):
    """Names of sources that were chosen; where none are, all others."""

    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


ALL = Across()


def across_of(train: Any, test: Any) -> Across:
    """What protocol.train and protocol.test say: null, a source, or a list of them."""
    return Across(*(_names(chosen) for chosen in (train, test)))


def _names(chosen: Any) -> tuple[str, ...]:
    if chosen is None:
        return ()
    return tuple(map(str, chosen if isinstance(chosen, list) else [chosen]))


def tested_sources(sources: NDArray[np.str_], across: Across) -> tuple[str, ...]:
    """The sources that are tested, a fold each: those named, or all that are not trained on.

    Raises:
        HEp2Error: cells without a source, fewer than two sources, or a choice that leaves no test.
    """
    names, lacking = np.unique(sources).tolist(), int(np.sum(sources == ""))
    if lacking or len(names) < 2:
        found = (
            f"{lacking} of {len(sources)} cells have none" if lacking else f"all are {names[0]}'s"
        )
        raise HEp2Error(
            f"protocol=source needs the source of every cell, and two or more sources, but {found}:"
            " add a column `source` to the manifest (data=manifest)"
        )
    for key, chosen in across._asdict().items():
        if unknown := sorted(set(chosen) - set(names)):
            raise HEp2Error(
                f"protocol.{key}={','.join(unknown)}: no cell is of this source; there are "
                f"{', '.join(names)}"
            )
    if both := sorted(set(across.train) & set(across.test)):
        raise HEp2Error(
            f"protocol.train and protocol.test both name {', '.join(both)}: take it out of one"
        )
    tested = across.test or tuple(name for name in names if name not in across.train)
    if not tested:
        raise HEp2Error("protocol.train names every source: leave one out, for the test")
    return tested


def between_sources(
    sources: NDArray[np.str_], labels: NDArray[np.int64], fold: int, across: Across
) -> tuple[Indices, Indices]:
    """Positions of the cells to learn from and of the test cells.

    Fold k tests on the k-th of `tested_sources`, and learns from the sources that are named, or
    from all others. Patterns that only one side has are in neither: they cannot be learnt and
    tested.
    """
    test = sources == tested_sources(sources, across)[fold]
    learning = np.isin(sources, across.train) if across.train else ~test
    both = np.isin(labels, np.intersect1d(labels[learning], labels[test]))
    return np.flatnonzero(learning & both), np.flatnonzero(test & both)


def with_patterns(cells: Cells, mapping: Mapping[Any, Any]) -> Cells:
    """The same cells with patterns renamed, {theirs: ours}; those that get one name are one.

    In the order of tables a name stands where the first of its patterns stood.

    Raises:
        HEp2Error: a name to be replaced is not a pattern of these cells.
    """
    names = {str(theirs): str(ours) for theirs, ours in mapping.items()}
    if unknown := sorted(set(names) - set(cells.classes)):
        raise HEp2Error(
            f"protocol.patterns: {', '.join(unknown)}: no such pattern; there are "
            f"{', '.join(cells.classes)}"
        )
    ours = [names.get(name, name) for name in cells.classes]
    classes = tuple(dict.fromkeys(ours))
    labels = np.array([classes.index(name) for name in ours], dtype=np.int64)[cells.labels]
    key = short_hash(repr((cells.key, sorted(names.items()))))
    return replace(cells, labels=labels, classes=classes, key=key)


def left_out(cells: Cells, used: Indices) -> list[str]:
    """Patterns of which no cell is among those used, each with its number of cells."""
    names, counts = np.unique(np.delete(cells.labels, used), return_counts=True)
    without = ~np.isin(names, cells.labels[used])
    return [
        f"{cells.classes[name]} ({count})"
        for name, count in zip(names[without], counts[without], strict=True)
    ]
