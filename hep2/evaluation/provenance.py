"""Where the scores of a report come from, as tables: splits, code, packages and commands."""

from collections import Counter
from collections.abc import Iterable, Sequence

from hep2.evaluation.formats import NOTHING, Table
from hep2.rundir.artifacts import audit_of, chosen_of
from hep2.rundir.directory import notes_of
from hep2.rundir.result import Run, data_label, protocol_label

EXAMPLES = 3  # of a list in a note


def audits(runs: Sequence[Run]) -> Table:
    """One row a split; runs on the same split have the same audit."""
    shared = {
        "specimens on both sides": "shared_specimens",
        "their test cells": "cells_of_shared_specimens",
        "identical cells": "identical_cells",
        "look-alikes": "near_duplicate_cells",
    }
    splits: dict[str, list[str]] = {}
    odd = [f"{data_label(run)}: {_brief(note)}" for run in runs for note in notes_of(run.kept)]
    for run in runs:
        audit = audit_of(run)
        if audit is not None:
            counts = [*map(audit.get, shared.values()), run.kept.get("cells", {}).get("test")]
            texts = [NOTHING if count is None else str(count) for count in counts]
            row = [data_label(run), protocol_label(run), str(run.fold), *texts]
            splits.setdefault(run.split_hash, row)
    return Table(
        f"leakage audit{synthetic_words(runs)}: what test cells share with the cells learned from",
        ["data", "protocol", "fold", *shared, "of test cells"],
        list(splits.values()),
        [
            "look-alikes: a perceptual hash differs in at most 4 of 63 bits in some flip or "
            "quarter turn, and the images correlate by 0.985 or more; simulated cells, which hold "
            "no copy, reach a handful by chance.",
            *dict.fromkeys(odd),
        ],
    )


def _brief(note: str) -> str:
    """A note on one line, with the first examples of its list."""
    head, *listed = note.splitlines() or [""]
    more = ["..."] if len(listed) > EXAMPLES else []
    return " ".join([head, "; ".join([*map(str.strip, listed[:EXAMPLES]), *more])]).strip()


def origins(runs: Sequence[Run]) -> Table:
    """Data, code and packages that the runs were made with."""
    rows: Counter[tuple[str, ...]] = Counter()
    for run in runs:
        versions = ", ".join(map(" ".join, run.kept.get("versions", {}).items()))
        commit = str(run.kept.get("git_commit") or "not known")
        rows[data_label(run), run.data_key, commit, versions] += 1
    return Table(
        f"data, code and packages of the runs{synthetic_words(runs)}",
        ["data", "data key", "git commit", "versions", "runs"],
        [[*origin, str(count)] for origin, count in rows.items()],
    )


def commands(runs: Sequence[Run]) -> Table:
    """One row a run."""
    return Table.of(
        f"every run and its command{synthetic_words(runs)}",
        runs,
        {
            "run": lambda run: (
                f"{run.path.parts[-3]}, {protocol_label(run)}, fold {run.fold}, seed {run.seed}"
            ),
            "split hash": lambda run: run.split_hash,
            "seconds": lambda run: f"{run.seconds:.0f}",
            "precision": lambda run: str(run.kept.get("precision") or "32-true"),
            "chosen on inner folds": lambda run: chosen_of(run) or NOTHING,
            "command": lambda run: run.command or NOTHING,
        },
    )


def synthetic_words(runs: Iterable[Run]) -> str:
    """What a title says of simulated cells; nothing where all are real."""
    kinds = {run.synthetic for run in runs}
    if True not in kinds:
        return ""
    return " (partly synthetic cells)" if len(kinds) > 1 else " (synthetic cells)"
