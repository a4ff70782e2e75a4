"""What must be said below a table of results: what is missing, and what cannot be compared."""

import math
from collections.abc import Sequence

from hep2.evaluation.results import Result


def comparability(results: Sequence[Result]) -> list[str]:
    """Whether methods of one table were run on different data."""
    keys = {result.group.first.data_key: result.method for result in results}
    if len(keys) == 1:
        return []
    versions = ", ".join(f"{key} ({method})" for key, method in keys.items())
    return [f"the methods were not run on the same data: data keys {versions}."]


def folds_and_seeds(result: Result) -> list[str]:
    """Folds that are missing, lack a pattern, or had an encoder that learned nothing; seeds."""
    group, notes = result.group, []
    collapsed = sorted({run.fold for run in group.runs if run.encoder_collapsed})
    if collapsed:
        folds = _listed([str(fold) for fold in collapsed])
        notes.append(
            f"{result.method}: THE ENCODER HAD COLLAPSED in folds {folds}; figures of its latents "
            "say nothing about the method."
        )
    finished = len(group.by_fold)
    seeds = sorted({len(runs) for runs in group.by_fold.values()})
    if seeds != [1]:
        several = "-".join(str(count) for count in dict.fromkeys((seeds[0], seeds[-1])))
        notes.append(f"{result.method}: {several} seeds a fold, averaged within the fold.")
    if group.missing_folds:
        missing = _listed([str(fold) for fold in group.missing_folds])
        remedy = "compare only methods with the same folds"
        notes.append(f"{result.method}: folds not finished: {missing}; {remedy}.")
    absent = [
        f"{name} ({finished - values.folds} of {finished})"
        for name, values in zip(group.first.classes, result.recalls, strict=True)
        if values.folds < finished
    ]
    if absent:
        consequence = "their MCA is that of the other classes"
        notes.append(
            f"{result.method}: folds without a test cell of {', '.join(absent)}; {consequence}."
        )
    return notes


def intervals(result: Result) -> list[str]:
    """Why a method's figures have no intervals."""
    if result.specimens is None:
        return [f"{result.method}: no intervals, the specimens of the cells are not known."]
    if math.isnan(result.pooled["mca"].low):
        why = "some class has a single test specimen, or the specimens do not vary"
        return [f"{result.method}: no intervals, for {why}."]
    return []


def _listed(texts: list[str]) -> str:
    return ", ".join(texts[:10]) + (f" and {len(texts) - 10} more" if len(texts) > 10 else "")
