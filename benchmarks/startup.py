"""How long a user waits for help.

python -m benchmarks startup
"""

import subprocess
import sys
import time

from benchmarks.measure import ROOT, Row, medians


def _seconds(*words: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def rows() -> list[Row]:
    """One row: whole processes in turns."""
    sides = {
        "help": lambda: _seconds("train.py", "--help"),
        "hydra": lambda: _seconds("-c", "import hydra"),
    }
    seconds = medians(sides, turns=9)
    ours, other = seconds["help"], seconds["hydra"]
    return [
        Row(
            "train.py --help against import hydra",
            ours,
            other,
            "s",
            ours / other,
            3,
            at_least=False,
        )
    ]
