"""Where the numbers of a report come from, as tables: splits, code, packages and commands."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hep2.evaluation.formats import NOTHING, Table
from hep2.rundir.artifacts import audit_of, chosen_of
from hep2.rundir.result import Run, data_label, protocol_label


def audits(runs: Sequence[Run]) -> Table:
    """One row a split; runs on the same split have the same audit."""
    splits: dict[str, tuple[Run, Mapping[str, Any]]] = {}
    for run in runs:
        audit = audit_of(run)
        if audit is not None:
            splits.setdefault(run.split_hash, (run, audit))

    def shared(name: str) -> Callable[[tuple[Run, Mapping[str, Any]]], str]:
        return lambda split: NOTHING if split[1][name] is None else str(split[1][name])

    return Table.of(
        f"leakage audit{synthetic_words(runs)}: what test cells share with the cells learned from",
        splits.values(),
        {
            "data": lambda split: data_label(split[0]),
            "protocol": lambda split: protocol_label(split[0]),
            "fold": lambda split: str(split[0].fold),
            "specimens on both sides": shared("shared_specimens"),
            "their test cells": shared("cells_of_shared_specimens"),
            "identical cells": shared("identical_cells"),
            "look-alikes": shared("near_duplicate_cells"),
            "of test cells": lambda split: str(split[0].kept.get("cells", {}).get("test", NOTHING)),
        },
        [
            "look-alikes: a perceptual hash differs in at most 4 of 63 bits in some flip or "
            "quarter turn, and the images correlate by 0.985 or more; simulated cells, which hold "
            "no copy, reach a handful by chance."
        ],
    )


def origins(runs: Sequence[Run]) -> Table:
    """Data, code and packages that the runs were made with."""
    rows: Counter[tuple[str, ...]] = Counter()
    for run in runs:
        versions = run.kept.get("versions", {})
        listed = ", ".join(f"{name} {number}" for name, number in versions.items())
        commit = str(run.kept.get("git_commit") or "not known")
        rows[data_label(run), run.data_key, commit, listed] += 1
    return Table(
        f"where the figures come from{synthetic_words(runs)}",
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
