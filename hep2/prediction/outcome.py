"""What a prediction says, as rows: of each cell, and of each specimen; as values and as CSV text.

A row maps columns to values: None, or NaN in a column of numbers, where there is nothing to say.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hep2.calls.answer import Call
from hep2.calls.calibration import Calibration
from hep2.calls.conformal import prediction_sets
from hep2.calls.unlike import is_unlike
from hep2.data.patterns import PatternNames
from hep2.files import escape_formula
from hep2.prediction.calls import Opinion
from hep2.prediction.cells import CellBatch

Row = dict[str, Any]
Floats = NDArray[np.floating]


def shares(classes: Sequence[str], probabilities: Floats | None) -> Row:
    """The columns p_<class>; None: NaN."""
    values = np.full(len(classes), np.nan) if probabilities is None else probabilities
    return {f"p_{name}": float(value) for name, value in zip(classes, values, strict=True)}


def cell_columns(classes: Sequence[str], specimens: bool) -> list[str]:
    """The columns of a table of cells; `specimens` says whether theirs are known."""
    return [*(("id", "specimen") if specimens else ("id",)), "output", *shares(classes, None),
            *("set", "novelty", "unlike_training", "problem")]  # fmt: skip


def cell_rows(
    batch: CellBatch,
    classes: Sequence[str],
    probabilities: Floats,
    novelties: Floats,
    calibration: Calibration | None,
) -> Iterator[Row]:
    """A row a cell.

    Args:
        batch: of B cells, n of them without a problem.
        classes: names of patterns.
        probabilities: of those n, (n, classes).
        novelties: of those n, (n,), NaN where it is not known.
        calibration: of the runs, which knows the sets; None: they are empty.
    """
    sets = np.zeros(probabilities.shape, np.bool_)
    if calibration:
        sets = prediction_sets(probabilities.astype(np.float64), calibration.limits[0].cells)
    outcomes = iter(zip(probabilities, sets, novelties, strict=True))
    for cell, problem in zip(batch.cells, batch.problems, strict=True):
        row, inside, novelty = (None, (), np.nan) if problem else next(outcomes)
        yield {
            "id": cell.id,
            "specimen": cell.specimen,
            "output": None if row is None else classes[int(row.argmax())],
            **shares(classes, row),
            "set": _named(classes, np.flatnonzero(inside)),
            "novelty": float(novelty),
            "unlike_training": None if np.isnan(novelty) else bool(is_unlike(novelty)),
            "problem": problem,
        }


def specimen_row(name: str, found: Opinion, classes: Sequence[str], known: PatternNames) -> Row:
    """The call of a specimen: by mean probability, and by majority.

    A tied majority goes to the tied class with the higher mean probability. Cells are those with a
    call; without_call are the others. `said` is no where the answer is "cannot say", `reason` says
    why; `share` is that of the cells whose first pattern is the output, with Wilson's 95 % interval
    over cells, and so for each pattern in its own columns; `set` and `second` are empty where the
    run was not calibrated; `same_...` says how often that part of the cells, drawn at random, gives
    the same pattern.

    Args:
        name: of the specimen.
        found: what is said of it.
        classes: names of patterns.
        known: ICAP's names of them.
    """
    call, main = found.call, found.call.pattern
    each = {name: _share(call, place) for place, name in enumerate(classes)}
    of_main = [np.nan] * 3 if main is None else each[classes[main]]
    return {
        "specimen": name,
        "cells": call.cells,
        "output": None if main is None else classes[main],
        "output_by_majority": None if found.majority is None else classes[found.majority],
        **shares(classes, None if main is None else found.mean),
        "icap": "" if main is None else known.codes(classes[main]),
        "icap_name": "" if main is None else known.words(classes[main]),
        "unlike_training": call.unlike,
        "without_call": call.unusable,
        "doubts": "; ".join(found.doubts),
        "said": call.said,
        "reason": call.reason,
        "set": _named(classes, call.members or ()),
        "second": "" if call.second is None else classes[call.second],
        "second_icap": "" if call.second is None else known.codes(classes[call.second]),
        **_columns("share", of_main),
        "cells_needed": found.needed,
        **{f"same_{part}": float(share) for part, share in found.same.items()},
        **{column: value for name, parts in each.items()
           for column, value in _columns(f"share_{name}", parts).items()},
    }  # fmt: skip


def _named(classes: Sequence[str], members: Iterable[int]) -> str:
    return "; ".join(classes[one] for one in members)


def _share(call: Call, pattern: int) -> list[float]:
    """Of the cells whose first pattern it is, and the ends of its interval."""
    return [float(part[pattern]) for part in (call.shares, call.lows, call.highs)]


def _columns(name: str, share: Sequence[float]) -> Row:
    return dict(zip((name, f"{name}_low", f"{name}_high"), share, strict=True))


# Of numbers, by the first word of their column.
_DIGITS = {"p": 9, "novelty": 6, "share": 4, "same": 4}


def texts(row: Mapping[str, Any]) -> list[str]:
    """The values of a row as a CSV has them."""
    return [_text(column, value) for column, value in row.items()]


def _text(column: str, value: Any) -> str:
    if value is None or value != value:  # which NaN alone is not
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{_DIGITS[column.partition('_')[0]]}g}"
    return escape_formula(str(value))
