"""How far a job is, read off the metrics.csv that it writes row by row."""

import contextlib
import csv
import math
from dataclasses import dataclass
from pathlib import Path

from hep2.errors import HEp2Error


def validation_mca(run_dir: Path) -> float:
    """MCA on the validation cells of the epoch whose weights were kept: the lowest `val/loss`.

    Raises:
        HEp2Error: the run has no such figures.
    """
    try:
        with (run_dir / "metrics.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("val/loss")]
    except OSError as error:
        raise HEp2Error(f"{run_dir}/metrics.csv cannot be read: {error.strerror}") from error
    best = min(rows, key=lambda row: float(row["val/loss"]), default={})
    measured = {key: value for key, value in best.items() if key and value}
    figures = [float(value) for key, value in measured.items() if _is_validation_mca(key)]
    if len(figures) != 1 or math.isnan(figures[0]):
        raise HEp2Error(
            f"{run_dir} has no MCA on validation cells: a search needs them in every fold; choose "
            "a protocol whose folds have three training specimens of every pattern"
        )
    return figures[0]


def _is_validation_mca(key: str) -> bool:
    return key.startswith("val/") and key.endswith("/mca")


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


def learning_curves(metrics_csv: Path) -> dict[str, list[list[float]]]:
    """Every figure that was logged once an epoch, as [epoch, value], from a run's metrics.csv."""
    if not metrics_csv.is_file():
        return {}
    curves: dict[str, dict[int, float]] = {}
    with metrics_csv.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if not row.get("epoch"):
                continue
            epoch = int(float(row["epoch"]))
            for name, text in row.items():
                if name.startswith(("train/", "val/")) and text and math.isfinite(float(text)):
                    curves.setdefault(name, {})[epoch] = float(f"{float(text):.6g}")
    return {
        name: [[epoch, value] for epoch, value in sorted(points.items())]
        for name, points in curves.items()
    }
