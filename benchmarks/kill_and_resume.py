"""Kill `make reproduce` again and again, let it end, and compare it with an undisturbed one.

    python benchmarks/kill_and_resume.py            20 kills at random moments, some minutes

`make reproduce ROWS=dcae_mlp` runs in copies of the source, on two folds of a few synthetic cells.
They die by SIGKILL, which cannot be caught: whatever was not on disk is gone. Then the same
command goes on; once it has ended everything starts from nothing, until there were enough kills.
Exits with code 1 where a prediction or a figure differs in any bit.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ("Makefile", "train.py", "evaluate.py", "hep2", "conf")
TINY = (
    "data.source.cells=200", "data.source.specimens=20", "model=dcae_small", "stage.epochs=30",
    "stage.batch_size=16", "features.orientations=2", "trainer.accelerator=cpu", "logger=csv",
    "checkpoint_seconds=0",
)  # fmt: skip
COMMAND = (
    "make", "--old-file=install", "reproduce", f"BIN={Path(sys.executable).parent}",
    "ROWS=dcae_mlp", "FOLDS=0,1", f"ARGS={' '.join(TINY)}",
)  # fmt: skip
PASSING = ("seconds", "encoder_seconds", "command", "git_commit")  # may differ in a disturbed run


def start(folder: Path) -> subprocess.Popen[bytes]:
    """The command, as leader of a process group; its messages are kept for the case of failure."""
    with (folder / "log.txt").open("ab") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            COMMAND, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def finish(folder: Path, kills: int, longest: float, rng: random.Random) -> int:
    """Run it to its end, with at most so many kills on the way; returns how many there were."""
    folder.mkdir()
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    done, code = 0, -int(signal.SIGKILL)
    while code == -signal.SIGKILL:
        process = start(folder)
        if done < kills:
            try:
                process.wait(rng.uniform(0.2, longest))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                done += 1
        code = process.wait()
    if code != 0:
        raise SystemExit(f"make reproduce ended with {code}:\n{(folder / 'log.txt').read_text()}")
    return done


def figures(folder: Path) -> dict[str, Any]:
    """What all runs found, every bit of it."""
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("runs/**/result.json")):
        name = file.parent.relative_to(folder).as_posix()
        result = json.loads(file.read_text())
        for key in result.keys() - set(PASSING):
            found[f"{name}: {key} of result.json"] = result[key]
        found[f"{name}: predictions.csv"] = (file.parent / "predictions.csv").read_bytes()
    return found


def main() -> None:
    """Compare the two, and say what differs."""
    options = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0, help="of the moments")
    given = options.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as temporary:
        began = time.monotonic()
        finish(Path(temporary) / "calm", 0, 0.0, rng)
        calm = time.monotonic() - began
        expected = figures(Path(temporary) / "calm")
        kills, rounds, differing, left = 0, 0, set[str](), set[str]()
        while kills < given.kills:
            folder = Path(temporary) / f"disturbed{rounds}"
            # Moments spread over half of the whole: few rounds end before they are killed.
            kills += finish(folder, given.kills - kills, calm / 2, rng)
            rounds += 1
            found = figures(folder)
            keys = expected.keys() | found.keys()
            differing |= {key for key in keys if expected.get(key) != found.get(key)}
            left |= {path.name for path in folder.glob("runs/**/.*.*") if path.is_file()}
    print(
        f"undisturbed: {calm:.0f} s; {kills} kills in {rounds} rounds; {len(expected)} entries each"
    )
    print(f"differing: {', '.join(sorted(differing)) or 'none'}")
    print(f"left behind: {', '.join(sorted(left)) or 'nothing'}")
    sys.exit(1 if differing or not expected else 0)


if __name__ == "__main__":
    main()
