"""Whether two jobs at a time get through a sweep faster than one after the other.

    python -m benchmarks sweep          some minutes; no part of `make bench`

Five folds of stage 1, a few epochs each, as `python train.py -m` on synthetic cells that have been
simulated before. One job at a time has all cores, two have half of them each. Beside the ratio it
prints how many cores were busy: what a single job leaves idle is what the second one can win.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import ROOT, Row

FOLDS = 5
EPOCHS = 4
TARGET = 1.1


def rows() -> list[Row]:
    """One row."""
    with tempfile.TemporaryDirectory() as folder:
        _train(Path(folder), "debug=fdr")  # simulates the cells, and warms the files' caches
        per_minute = {n_jobs: _sweep(Path(folder), n_jobs) for n_jobs in (1, 2)}
    return [
        Row(
            f"sweep of {FOLDS} folds, two jobs at a time against one",
            per_minute[2],
            per_minute[1],
            "jobs/min",
            per_minute[2] / per_minute[1],
            TARGET,
            at_least=True,
        )
    ]


def _sweep(folder: Path, n_jobs: int) -> float:
    """Jobs a minute."""
    folds = ",".join(map(str, range(FOLDS)))
    words = (f"fold={folds}", f"stage.epochs={EPOCHS}", f"name=jobs{n_jobs}")
    began, busy = time.perf_counter(), _processor_seconds()
    _train(folder, "-m", *words, f"hydra.launcher.n_jobs={n_jobs}")
    seconds, busy = time.perf_counter() - began, _processor_seconds() - busy
    print(f"n_jobs={n_jobs}: {seconds:.0f} s, {busy / seconds:.2f} cores busy", file=sys.stderr)
    return 60 * FOLDS / seconds


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _train(folder: Path, *words: str) -> None:
    command = [sys.executable, str(ROOT / "train.py"), *words, "stage=dcae", "logger=csv"]
    places = [f"runs_dir={folder}/runs", f"cache_dir={folder}/cache", "trainer.accelerator=cpu"]
    free = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    subprocess.run([*command, *places], cwd=ROOT, env=free, stdout=sys.stderr, check=True)
