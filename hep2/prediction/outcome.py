"""What a prediction says, as rows: of each cell, and of each specimen; as values and as CSV text.

A row maps columns to values: None, or NaN in a column of numbers, where there is nothing to say.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
            *("novelty", "unlike_training", "problem")]  # fmt: skip


def cell_rows(
    batch: CellBatch, classes: Sequence[str], probabilities: Floats, novelties: Floats
) -> Iterator[Row]:
    """A row a cell.

    Args:
        batch: of B cells, n of them without a problem.
        classes: names of patterns.
        probabilities: of those n, (n, classes).
        novelties: of those n, (n,), NaN where it is not known.
    """
    outcomes = iter(zip(probabilities, novelties, strict=True))
    for cell, problem in zip(batch.cells, batch.problems, strict=True):
        row, novelty = (None, np.nan) if problem else next(outcomes)
        yield {
            "id": cell.id,
            "specimen": cell.specimen,
            "output": None if row is None else classes[int(row.argmax())],
            **shares(classes, row),
            "novelty": float(novelty),
            "unlike_training": None if np.isnan(novelty) else bool(is_unlike(novelty)),
            "problem": problem,
        }


def specimen_row(name: str, found: Opinion, classes: Sequence[str], known: PatternNames) -> Row:
    """The call of a specimen: by mean probability, and by majority.

    A tied majority goes to the tied class with the higher mean probability. Cells are those with a
    call; without_call are the others. `said` is no where the answer is "cannot say", `reason` says
    why; `share` is that of the cells whose first pattern is the output, with Wilson's 95 % interval
    over cells; `set` and `second` are empty where the run was not calibrated.

    Args:
        name: of the specimen.
        found: what is said of it.
        classes: names of patterns.
        known: ICAP's names of them.
    """
    call, main = found.call, found.call.pattern
    share = [np.nan] * 3
    if main is not None:
        share = [float(part[main]) for part in (call.shares, call.lows, call.highs)]
    return {
        "specimen": name,
        "cells": call.cells,
        "output": None if main is None else classes[main],
        "output_by_majority": None if found.majority is None else classes[found.majority],
        **shares(classes, None if main is None else found.mean),
        "icap": "" if main is None else known.codes(classes[main]),
        "unlike_training": call.unlike,
        "without_call": call.unusable,
        "doubts": "; ".join(found.doubts),
        "said": call.said,
        "reason": call.reason,
        "set": "; ".join(classes[one] for one in call.members or ()),
        "second": "" if call.second is None else classes[call.second],
        **dict(zip(("share", "share_low", "share_high"), share, strict=True)),
        "cells_needed": found.needed,
    }


_DIGITS = {"p": 9, "novelty": 6, "share": 4}  # of numbers, by the first word of their column


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
