"""How long a new user waits for a first line of the table.

    python -m benchmarks first_line

`make reproduce` as in a fresh clone after its installation: nothing is simulated, trained or kept.
As soon as one of its runs has named test cells, `evaluate.py` prints the table of what there is.
Then the sweep is stopped.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import ROOT, Row

PATIENCE = 900.0  # seconds
MINUTE = 60.0


def rows() -> list[Row]:
    """One row."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = _seconds(Path(folder))
    name = "make reproduce to a first line of the table, against a minute"
    return [Row(name, seconds, MINUTE, "s", seconds / MINUTE, 1.0, at_least=False)]


def _seconds(folder: Path) -> float:
    python = Path(sys.executable)
    places = f"runs_dir={folder}/runs cache_dir={folder}/cache"
    make = ["make", "--old-file=install", "reproduce", f"BIN={python.parent}", f"ARGS={places}"]
    table = [python, "evaluate.py", "name=reproduce", f"runs_dir={folder}/runs"]
    started = time.perf_counter()
    with subprocess.Popen(make, cwd=ROOT, stdout=sys.stderr, start_new_session=True) as sweep:
        try:
            while not _named(folder / "runs"):
                if sweep.poll() is not None or time.perf_counter() - started > PATIENCE:
                    raise RuntimeError("make reproduce has ended, or waits, without a result")
                time.sleep(0.2)
            subprocess.run(
                [*table, f"reports_dir={folder}/reports"], cwd=ROOT, check=True, stdout=sys.stderr
            )
            return time.perf_counter() - started
        finally:
            os.killpg(sweep.pid, signal.SIGTERM)


def _named(runs: Path) -> bool:
    """Whether a run that classifies is finished."""
    found = (next(runs.glob(f"*/*/{kind}-*/*/*/result.json"), None) for kind in ("head", "cnn"))
    return any(found)
