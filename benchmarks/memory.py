"""The most memory that a command and all processes below it ever held together. Linux.

    python -m benchmarks memory                    the row, some minutes
    python -m benchmarks.memory make reproduce     of any command

Looked at four times a second: the sum, over the processes, of their proportional set sizes, in
which a page that n processes share counts 1/n for each. "Own" is what no file backs: pages of
mapped files (cells, features) grow with the cells, but the system takes them back when it must.

The row: ROWS as `make reproduce` runs them, two jobs at a time, on 1 and 8 times as many cells.
Networks are small and epochs few, so that what grows with the cells would show.
"""

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.measure import ROOT, Row

TIMES = (1, 8)
CELLS, SPECIMENS = 500, 20
ROWS = "dcae_mlp,dcae_fisher,cnn"
SMALL = (
    "data=synthetic", "protocol=published", "fold=0,1", "logger=csv", "trainer.accelerator=cpu",
    "model.network.widths=[8,8,8,8]", "stage.epochs=2", "features.orientations=2",
)  # fmt: skip
EVERY = 0.25  # seconds
PARTS = {"Pss:": "all", "Pss_Anon:": "own", "Pss_Shmem:": "own"}  # of smaps_rollup


def rows() -> list[Row]:
    """One row."""
    least, most = (_sweep(times)["own"] for times in TIMES)
    return [
        Row(
            f"peak memory of a sweep, all processes, {TIMES[1]}x cells against {TIMES[0]}x",
            most,
            least,
            "MB",
            most / least,
            1.2,
            at_least=False,
        )
    ]


def _sweep(times: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        places = (f"runs_dir={folder}/runs", f"cache_dir={folder}/cache", "name=memory")
        cells = f"data.source.cells={times * CELLS}", f"data.source.specimens={times * SPECIMENS}"
        command = [sys.executable, "-m", "hep2.rows", ROWS, "--jobs", "2"]
        code, peak = peak_of([*command, *SMALL, *cells, *places], quiet=True)
    if code:
        raise RuntimeError(f"the sweep on {times}x cells ended with code {code}")
    return peak


def peak_of(command: Sequence[str], quiet: bool = False) -> tuple[int, dict[str, float]]:
    """The exit code of a command, and the peaks of its processes together, MB: "all" and "own"."""
    peak = {"all": 0.0, "own": 0.0}
    out = subprocess.DEVNULL if quiet else None
    with subprocess.Popen(command, cwd=ROOT, stdout=out) as process:
        while process.poll() is None:
            held = held_by(tree(process.pid))
            peak = {name: max(value, held[name]) for name, value in peak.items()}
            time.sleep(EVERY)
    return process.returncode, peak


def tree(root: int) -> Iterator[int]:
    """A process and all below it."""
    children = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        children[int(words[1])].append(int(stat.parent.name))
    waiting = [root]
    while waiting:
        yield (number := waiting.pop())
        waiting += children[number]


def held_by(processes: Iterator[int]) -> dict[str, float]:
    """What some processes hold now, MB."""
    held = {"all": 0.0, "own": 0.0}
    for number in processes:
        try:
            lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended, or is not ours
            continue
        for name, value in (line.split()[:2] for line in lines[1:]):
            if name in PARTS:
                held[PARTS[name]] += int(value) / 1024
    return held


if __name__ == "__main__":
    code, peak = peak_of(sys.argv[1:])
    print(f"peak memory of all processes: {peak['all']:.0f} MB, {peak['own']:.0f} MB of it own")
    sys.exit(code)
