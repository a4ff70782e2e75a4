"""Whether two jobs at a time get through a sweep faster than one after the other.

    python -m benchmarks sweep

Five folds of stage 1, a few epochs each, as `python train.py -m` on synthetic cells that have been
simulated before. One job at a time has all cores, two have half of them each. The second row is
the floor: cores that one job at a time leaves idle are all that a second one can win.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import own_seconds
from benchmarks.measure import ROOT, Row
from hep2.processor import cores

FOLDS = 5
EPOCHS = 4
TARGET = 1.5
SETTLED = 2.0  # seconds: then the processes of an ended sweep have ended as well


def rows() -> list[Row]:
    """Two rows, the second with the best that is possible."""
    with tempfile.TemporaryDirectory() as folder:
        _train(Path(folder), "debug=fdr")  # simulates the cells, and warms the files' caches
        one, two = (_sweep(Path(folder), n_jobs) for n_jobs in (1, 2))
    name = f"sweep of {FOLDS} folds, two jobs at a time against one"
    floor = f"{name}: cores, and those that one job keeps busy"
    return [_row(name, two[0], one[0], "jobs/min", TARGET), _row(floor, cores(), one[1], "cores")]


def _row(name: str, ours: float, other: float, unit: str, target: float | None = None) -> Row:
    return Row(name, ours, other, unit, ours / other, target, at_least=True)


def _sweep(folder: Path, n_jobs: int) -> tuple[float, float]:
    """Jobs a minute, and how many cores they kept busy."""
    folds = ",".join(map(str, range(FOLDS)))
    words = (f"fold={folds}", f"stage.epochs={EPOCHS}", f"name=jobs{n_jobs}")
    began, busy = time.perf_counter(), own_seconds()
    _train(folder, "-m", *words, f"hydra.launcher.n_jobs={n_jobs}")
    seconds = time.perf_counter() - began
    time.sleep(SETTLED)
    return 60 * FOLDS / seconds, (own_seconds() - busy) / seconds


def _train(folder: Path, *words: str) -> None:
    command = [sys.executable, str(ROOT / "train.py"), *words, "stage=dcae", "logger=csv"]
    places = [f"runs_dir={folder}/runs", f"cache_dir={folder}/cache", "trainer.accelerator=cpu"]
    free = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    subprocess.run([*command, *places], cwd=ROOT, env=free, stdout=sys.stderr, check=True)
