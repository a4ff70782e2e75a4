"""Tables of a page about the runs themselves: leakage audits, data, code, commands."""

from collections.abc import Iterable, Sequence

from hep2.evaluation.kept import audit_of, chosen_of
from hep2.evaluation.runs import Run, data_label, protocol_label
from hep2.evaluation.table import NOTHING, Table


def audits(runs: Sequence[Run]) -> Table:
    """One row a split; runs on the same split have the same audit."""
    rows: dict[str, list[str]] = {}
    for run in runs:
        audit = audit_of(run)
        if audit is None or run.split_hash in rows:
            continue
        counts = (audit[name] for name in ("shared_specimens", "cells_of_shared_specimens",
                                           "identical_cells", "near_duplicate_cells"))  # fmt: skip
        texts = [NOTHING if count is None else str(count) for count in counts]
        place = [data_label(run), protocol_label(run), str(run.fold)]
        rows[run.split_hash] = [*place, *texts, str(run.kept.get("cells", {}).get("test", NOTHING))]
    heading = ["data", "protocol", "fold", "specimens on both sides", "their test cells",
               "identical cells", "look-alikes", "of test cells"]  # fmt: skip
    return Table(
        f"leakage audit{synthetic_words(runs)}: what test cells share with the cells learned from",
        heading,
        list(rows.values()),
        [
            "look-alikes: a perceptual hash differs in at most 4 of 63 bits in some flip or "
            "quarter turn, and the images correlate by 0.985 or more; simulated cells, which hold "
            "no copy, reach a handful by chance."
        ],
    )


def origins(runs: Sequence[Run]) -> Table:
    """Data, code and packages that the runs were made with."""
    rows: dict[tuple[str, ...], int] = {}
    for run in runs:
        versions = run.kept.get("versions", {})
        listed = ", ".join(f"{name} {number}" for name, number in versions.items())
        commit = str(run.kept.get("git_commit") or "not known")
        key = (data_label(run), run.data_key, commit, listed)
        rows[key] = rows.get(key, 0) + 1
    return Table(
        f"where the figures come from{synthetic_words(runs)}",
        ["data", "data key", "git commit", "versions", "runs"],
        [[*key, str(count)] for key, count in rows.items()],
    )


def commands(runs: Sequence[Run]) -> Table:
    """One row a run."""
    return Table(
        f"every run and its command{synthetic_words(runs)}",
        ["run", "split hash", "seconds", "chosen on inner folds", "command"],
        [
            [
                f"{run.path.parts[-3]}, {protocol_label(run)}, fold {run.fold}, seed {run.seed}",
                run.split_hash,
                f"{run.seconds:.0f}",
                chosen_of(run) or NOTHING,
                run.command or NOTHING,
            ]
            for run in runs
        ],
    )


def synthetic_words(runs: Iterable[Run]) -> str:
    """What a title says of simulated cells; nothing where all are real."""
    kinds = {run.synthetic for run in runs}
    if True not in kinds:
        return ""
    return " (partly synthetic cells)" if len(kinds) > 1 else " (synthetic cells)"
