"""The table of unsupervised runs: clusters compared with patterns, apart from all classifiers."""

from collections.abc import Iterable
from itertools import groupby

from hep2.evaluation.results import spread, wall_time
from hep2.evaluation.runs import Run, protocol_label
from hep2.evaluation.table import Table, spread_text
from hep2.evaluation.tables import caption

SHOWN = ("clustering_accuracy", "accuracy_matched_in_training", "nmi", "ari")
NOTE = (
    "clustering accuracy: each cluster is given the pattern that suits the test cells best, by "
    "their own labels (Hungarian method), as in the literature; matched in training: by the labels "
    "of the training cells. Neither may stand beside the accuracy of a classifier."
)


def clustering_tables(runs: Iterable[Run]) -> list[Table]:
    """One table for each data set and protocol with finished runs of kind "clustering"."""

    def place(run: Run) -> tuple[str, str]:
        return run.data, run.protocol

    found = sorted((run for run in runs if run.kind == "clustering"), key=place)
    return [_table(list(block)) for _, block in groupby(found, key=place)]


def _table(runs: list[Run]) -> Table:
    of = protocol_label(runs[0])
    methods = sorted({run.method for run in runs})
    names = ("clustering\naccuracy %", "matched in\ntraining %", "NMI", "ARI")
    return Table(
        caption(runs[0], "UNSUPERVISED clusters, mean ± standard deviation over folds"),
        ["method", *(f"{name} ({of})" for name in names), "seconds\na fold", "folds"],
        [_row(method, [run for run in runs if run.method == method]) for method in methods],
        [NOTE],
    )


def _row(method: str, runs: list[Run]) -> list[str]:
    by_fold = {fold: [r for r in runs if r.fold == fold] for fold in {r.fold for r in runs}}
    texts = []
    for name, scale, digits in zip(SHOWN, (100, 100, 1, 1), (2, 2, 3, 3), strict=True):
        key = f"{protocol_label(runs[0])}/test/{name}"
        folds = [spread([run.metrics[key] for run in group]).mean for group in by_fold.values()]
        texts.append(spread_text(spread(folds), scale, digits))
    count = f"{len(by_fold)} of {runs[0].folds}"
    return [method, *texts, f"{wall_time(by_fold).mean:.0f}", count]
