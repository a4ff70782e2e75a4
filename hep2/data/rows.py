"""The rows of a data set, compared with each other: what is wrong between them."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from hep2.data.cells import Row
from hep2.data.manifest import LISTED, shortened
from hep2.data.spelling import (
    POOLS,
    label_key,
    nearly,
    normal,
    nothing,
    shown,
    spelling_key,
    spellings,
)

log = logging.getLogger(__name__)

NAMED = 200  # pairs of spellings that are named
UNKNOWN = ("unknown", "unk", "unspecified", "undefined")  # which may be a label, but no specimen
KEYS = {"label": label_key, "specimen": spelling_key}  # what is compared, and how


def check_rows(found: Iterable[Row], problems: list[str], merge: bool = False) -> list[Row]:
    """Sort rows by ID and add what is wrong between them; warn of specimens with two labels.

    Of rows with the same ID, or the same file under two spellings of an ID, the first is kept. A
    specimen is of its source: "1" of the source a becomes "a/1". Labels and specimens under two
    spellings are merged into the commonest where `merge` says so.
    """
    rows: dict[str, Row] = {}
    files: dict[Path, Row] = {}
    said: dict[str, str] = {}  # what a cell without a specimen says instead of one
    for row in found:
        first = rows.get(row.id) or files.get(row.file)
        # Names of files that cannot be written into a CSV; Linux allows them.
        if any("\ud800" <= letter <= "\udfff" for letter in row.id + row.label + row.specimen):
            problems.append(f"{row.id!a}: a name that is not UTF-8; rename the file or folder")
        elif nothing(row.label):
            problems.append(f"{row}: {_no_label(row.label)}")
        elif first:
            problems.append(f"{row}: duplicate ID, {first.origin or first.file} has it too")
        else:
            if row.specimen and (nothing(row.specimen) or normal(row.specimen) in UNKNOWN):
                said[row.id] = row.specimen
                row = replace(row, specimen="")
            if row.source and row.specimen:  # numbers begin again in every source
                row = replace(row, specimen=f"{row.source}/{row.specimen}")
            rows[row.id] = files[row.file] = replace(row, pool=_pool(row.pool))
    ordered = [rows[identity] for identity in sorted(rows)]
    if merge:
        ordered = _merged(ordered)
    elif found_twice := differences(ordered):
        problems.insert(
            0,
            "one thing under two spellings; write each in one way, or merge them into the"
            f" commonest with data.source.merge_spellings=true:\n{shortened(found_twice, NAMED)}",
        )
        return ordered  # what else is wrong between them may come of that
    _warn_of_near_misses({row.label for row in ordered})
    problems += _pool_problems(ordered)
    if any(row.source for row in ordered):
        problems += [
            f"{row}: no source, though other rows have one" for row in ordered if not row.source
        ]
    problems += _specimen_problems(ordered, said)
    _warn_of_mixed_specimens(ordered)
    return ordered


def _no_label(label: str) -> str:
    if not label:
        return "the label is empty"
    advice = "if a class is called that, give it another name"
    return f"the label '{label}' says that there is none; {advice}"


def _pool(pool: str) -> str:
    return "" if nothing(pool) else pool.casefold() if pool.casefold() in POOLS else pool


def _merged(rows: list[Row]) -> list[Row]:
    """Rows with the commonest spelling of each label and specimen, which is said in one line."""
    merged = []
    for kind, key in KEYS.items():
        names = [str(getattr(row, kind)) for row in rows]
        groups = spellings(names, key)
        into = {name: forms[0] for forms in groups for name in forms}
        changed: list[dict[str, Any]] = [{kind: into.get(name, name)} for name in names]
        rows = [replace(row, **new) for row, new in zip(rows, changed, strict=True)]
        merged += [f"{kind} '{first}' of {', '.join(others)}" for first, *others in groups]
    if merged:
        more = f" and {len(merged) - LISTED} more" if len(merged) > LISTED else ""
        text = f"spellings are merged: {'; '.join(merged[:LISTED])}{more}"
        log.warning("%s", text)
    return rows


def differences(rows: Sequence[Row]) -> list[str]:
    """A line for each label and specimen with several spellings: cells, and where the first is."""
    lines = []
    for kind, key in KEYS.items():
        names = [str(getattr(row, kind)) for row in rows]
        counts = Counter(names)
        first = dict(zip(reversed(names), reversed(rows), strict=True))
        for forms in spellings(names, key):
            cells = [f"{shown(name, forms)} ({counts[name]} cells, e.g. {first[name]})"
                     for name in forms]  # fmt: skip
            lines.append(f"{kind} {' and '.join(cells)}")
    return lines


def _warn_of_near_misses(labels: Iterable[str]) -> None:
    pairs = [f"'{one}' and '{two}'" for one, two in combinations(sorted(labels), 2)
             if nearly(one, two)]  # fmt: skip
    if pairs:
        text = "labels that differ by a letter or two; one pattern, misspelt?"
        log.warning("%s", f"{text} {'; '.join(pairs)}")


def _pool_problems(rows: Sequence[Row]) -> Iterator[str]:
    pooled = any(row.pool for row in rows)
    for row in rows:
        if row.pool and row.pool not in POOLS:
            yield f"{row}: unknown pool '{row.pool}'; allowed are {', '.join(POOLS)}"
        elif pooled and not row.pool:
            yield f"{row}: no pool, though other rows have one"


def _specimen_problems(rows: Sequence[Row], said: dict[str, str]) -> Iterator[str]:
    if not any(row.specimen for row in rows):
        return  # a source without specimens: only leaky protocols can use it
    members: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row.specimen:
            members[row.label].setdefault(row.specimen, row)
        else:
            instead = f" ('{said[row.id]}' says that there is none)" if row.id in said else ""
            yield f"{row}: no specimen, though other rows have one{instead}"
    for label, specimens in sorted(members.items()):
        if len(specimens) == 1:
            specimen, row = next(iter(specimens.items()))
            yield (
                f"{row}: class '{label}' has a single specimen ('{specimen}'), so it cannot be"
                " both learnt and tested; add a specimen or leave the class out"
            )


def _warn_of_mixed_specimens(rows: Iterable[Row]) -> None:
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.specimen:
            labels[row.specimen][row.label] += 1
    mixed = [
        f"{specimen}: " + ", ".join(f"{label} ({n} cells)" for label, n in sorted(counts.items()))
        for specimen, counts in sorted(labels.items())
        if len(counts) > 1
    ]
    if mixed:
        text = "specimens with more than one label (right for mixed patterns only):"
        log.warning("%s", f"{text}\n{shortened(mixed)}")
