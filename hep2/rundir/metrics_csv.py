"""metrics.csv: what a run logs, row by row; written, and read while it grows."""

import csv
import io
import logging
import math
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hep2.errors import HEp2Error
from hep2.files import write_atomic

log = logging.getLogger(__name__)

Row = dict[str, str]  # the cells of a row that hold a number, by column


def read_rows(file: Path) -> tuple[list[str], list[Row]]:
    """Columns and rows. A last line without its end, and what is not a number, is left out.

    Raises:
        OSError: the file cannot be read.
    """
    content = file.read_text(encoding="utf-8", errors="replace").replace("\0", "\ufffd")
    lines = content.splitlines(keepends=True)
    reader = csv.DictReader(line for line in lines if line.endswith("\n"))
    columns: list[str] = []
    rows: list[Row] = []
    with suppress(csv.Error):  # damaged: the rows before it count
        columns += dict.fromkeys(reader.fieldnames or [])
        for row in reader:
            rows.append({name: text for name, text in row.items() if name and _is_number(text)})
    return columns, rows


def _is_number(text: Any) -> bool:
    with suppress(TypeError, ValueError):  # missing, empty or damaged
        float(text)
        return True
    return False


def _epoch(row: Row) -> int:
    """The row's epoch; -1 where it has none."""
    epoch = float(row.get("epoch", "nan"))
    return int(epoch) if epoch.is_integer() and epoch >= 0 else -1


class MetricsCsv:
    """A metrics.csv that grows by rows, and goes on where it ended when its run is resumed.

    A new column rewrites the file. A row of the same step and the same columns (steps that a
    resumed run repeats after its last checkpoint) takes the earlier one's place.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._columns: list[str] = []
        self._rows: dict[tuple[str, frozenset[str]], Row] | None = None  # None: not read yet

    def add(self, row: Row) -> None:
        """Write one row, with its `step`.

        Raises:
            HEp2Error: the file cannot be written or the disk is full.
        """
        if self._rows is None:
            self._rows = self._rows_so_far()
        key = (row["step"], frozenset(row))
        if self._rows.get(key) == row:
            return
        fits = key not in self._rows and set(row) <= set(self._columns)
        self._rows[key] = row
        if not fits:
            self._columns += [name for name in row if name not in self._columns]
            write_atomic(self._file, self._text(self._rows.values(), header=True))
            return
        try:
            with self._file.open("a", newline="", encoding="utf-8") as file:
                file.write(self._text([row], header=False))
        except OSError as error:
            raise HEp2Error(
                f"cannot write {self._file}: {error.strerror}; free some space"
            ) from error

    def _rows_so_far(self) -> dict[tuple[str, frozenset[str]], Row]:
        if not self._file.is_file():
            return {}
        self._columns, found = read_rows(self._file)
        rows = {(row.get("step", ""), frozenset(row)): row for row in found}
        stored = self._file.read_bytes()
        kept = self._text(rows.values(), header=bool(self._columns)).encode()
        if kept != stored:
            if kept != stored[: stored.rfind(b"\n") + 1]:  # more than a kill's torn last row
                log.warning("%s is damaged: what is left of it is kept", self._file)
            write_atomic(self._file, kept)
        return rows

    def _text(self, rows: Iterable[Row], header: bool) -> str:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, self._columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return buffer.getvalue()


@dataclass(frozen=True)
class Progress:
    """Where a training stands."""

    epochs: int = 0  # whole ones behind it
    metric: str = ""  # its newest metric, as "val/loss 0.012"; empty where there is none yet


def read_progress(run_dir: Path) -> Progress:
    """Read the last metrics of a run that may be writing at this moment."""
    try:
        _, rows = read_rows(run_dir / "metrics.csv")
    except OSError:
        return Progress()
    epochs = 1 + max(map(_epoch, rows), default=-1)
    newest = (
        f"{name} {float(text):.4g}"
        for wanted in ("mca", "val/loss", "train/loss")
        for row in reversed(rows)
        for name, text in row.items()
        if name.endswith(wanted)
    )
    return Progress(epochs, next(newest, ""))


def remaining(done: int, total: int | None, begun_at: int, seconds: float) -> float | None:
    """Seconds to the end, at the speed so far; None while that is not known.

    Of a run's `total` epochs, `done` are behind it, and `begun_at` were when its process started,
    `seconds` ago.
    """
    if total is None or done <= begun_at:
        return None
    return seconds / (done - begun_at) * max(0, total - done)


def learning_curves(run_dir: Path) -> dict[str, list[list[float]]]:
    """Every metric that was logged once an epoch, as [epoch, value]."""
    file = run_dir / "metrics.csv"
    curves: dict[str, dict[int, float]] = {}
    for row in read_rows(file)[1] if file.is_file() else []:
        for name, text in row.items() if (epoch := _epoch(row)) >= 0 else ():
            if name.startswith(("train/", "val/")) and math.isfinite(float(text)):
                curves.setdefault(name, {})[epoch] = float(f"{float(text):.6g}")
    return {name: [[*point] for point in sorted(curve.items())] for name, curve in curves.items()}


def validation_mca(run_dir: Path) -> float:
    """MCA on the validation cells of the epoch whose weights were kept: the lowest `val/loss`.

    Raises:
        HEp2Error: the run has no such metrics.
    """
    try:
        _, rows = read_rows(run_dir / "metrics.csv")
    except OSError as error:
        raise HEp2Error(f"{run_dir}/metrics.csv cannot be read: {error.strerror}") from error
    validated = [row for row in rows if "val/loss" in row]
    best = min(validated, key=lambda row: float(row["val/loss"]), default={})
    found = [float(best[name]) for name in best if re.fullmatch(r"val/(.*/)?mca", name)]
    if len(found) != 1 or math.isnan(found[0]):
        raise HEp2Error(
            f"{run_dir} has no MCA on validation cells: a search needs them in every fold; choose "
            "a protocol whose folds have three training specimens of every pattern"
        )
    return found[0]
