"""How far a job is, read off the metrics.csv that it writes row by row."""

import contextlib
import csv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        epochs: whole epochs behind it.
        figure: its newest figure, as "val/loss 0.012"; empty where there is none yet.
    """

    epochs: int = 0
    figure: str = ""


def read_progress(run_dir: Path) -> Progress:
    """Read the last figures of a run that may be writing at this moment."""
    try:
        lines = (run_dir / "metrics.csv").read_text(errors="replace").splitlines(keepends=True)
    except OSError:
        return Progress()
    try:
        rows = list(csv.DictReader(line for line in lines if line.endswith("\n")))
    except csv.Error:  # damaged
        return Progress()
    epochs = max((_whole(row.get("epoch")) + 1 for row in rows), default=0)
    return Progress(epochs, _figure(rows))


def remaining(done: int, total: int | None, begun_at: int, seconds: float) -> float | None:
    """Seconds to the end, at the speed so far; None while that is not known.

    Args:
        done: epochs behind the run.
        total: epochs of the whole run.
        begun_at: epochs that were behind it when its process started.
        seconds: since its process started.
    """
    if total is None or done <= begun_at:
        return None
    return seconds / (done - begun_at) * max(0, total - done)


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdigit() else -1


def _figure(rows: list[dict[str, str]]) -> str:
    for wanted in ("mca", "val/loss", "train/loss"):
        for row in reversed(rows):
            for name, value in row.items():
                if name and name.endswith(wanted) and value:
                    with contextlib.suppress(ValueError):  # damaged
                        return f"{name} {float(value):.4g}"
    return ""
