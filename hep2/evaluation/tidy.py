"""All results as one tidy CSV, for a spreadsheet or pandas."""

import csv
import io
import math
from collections.abc import Iterable

from hep2.evaluation.results import Result, Spread
from hep2.evaluation.runs import data_label, protocol_label
from hep2.evaluation.statistics import Interval

CSV_COLUMNS = (
    "data", "synthetic", "protocol", "leaky", "method", "metric", "mean", "sd", "folds_with_value",
    "folds_finished", "folds", "missing_folds", "seeds", "pooled", "pooled_low", "pooled_high",
)  # fmt: skip
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # begins one; the last four are wide


def results_csv(results: Iterable[Result]) -> str:
    """One row a (method, metric), values in [0, 1]; metrics are named `<protocol>/test/<name>`.

    Texts that a spreadsheet would run as a formula get an apostrophe in front (OWASP, CSV
    injection).
    """
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for result in results:
        for name, values in _named_spreads(result):
            interval = result.pooled.get(name, Interval(math.nan, math.nan, math.nan))
            writer.writerow([*_csv_head(result, name), *_csv_numbers(result, values, interval)])
    return lines.getvalue()


def neutral(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _named_spreads(result: Result) -> list[tuple[str, Spread]]:
    classes = result.group.first.classes
    by_class = zip(classes, result.recalls, strict=True)
    return [*result.measures.items(), *((f"recall/{name}", values) for name, values in by_class)]


def _csv_head(result: Result, name: str) -> list[str]:
    run = result.group.first
    metric = f"{protocol_label(run)}/test/{name}"
    truth = {True: "true", False: "false"}
    texts = [data_label(run), truth[run.synthetic], protocol_label(run), truth[run.leaky]]
    return [neutral(text) for text in [*texts, run.method, metric]]


def _csv_numbers(result: Result, values: Spread, interval: Interval) -> list[str]:
    group = result.group
    counts = [values.folds, len(group.by_fold), group.first.folds]
    return [
        _number(values.mean),
        _number(values.sd),
        *map(str, counts),
        " ".join(map(str, group.missing_folds)),
        " ".join(map(str, sorted({run.seed for run in group.runs}))),
        *map(_number, interval),
    ]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"
