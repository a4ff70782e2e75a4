"""Kill a small experiment again and again, let it end, and compare it with an undisturbed one.

    python benchmarks/kill_and_resume.py            20 kills at random moments, some minutes

Both stages of one fold on a few synthetic cells run as `python train.py`, each time from the start
of the process, until both are finished; then again from nothing, until there were enough kills.
SIGKILL cannot be caught: whatever was not on disk is gone.
Exits with code 1 where a prediction or a figure differs in any bit.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TINY = (
    "data.source.cells=200", "data.source.specimens=20", "model=dcae_small", "logger=csv",
    "stage.batch_size=16", "features.orientations=2", "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false", "~callbacks.progress", "checkpoint_seconds=0",
)  # fmt: skip
STAGES = (("dcae", 4), ("head", 30))
PASSING = (
    "seconds",
    "encoder_seconds",
    "command",
    "git_commit",
)  # what a disturbed run may say otherwise


def start(stage: str, epochs: int, folder: Path) -> subprocess.Popen[bytes]:
    """One stage's process; its messages are kept for the case that it fails."""
    words = [f"stage={stage}", f"stage.epochs={epochs}", *TINY]
    words += [f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"]
    command = [sys.executable, str(ROOT / "train.py"), *words]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def finish(folder: Path, kills: int, longest: float, rng: random.Random) -> int:
    """Run both stages to their end, with at most so many kills on the way; returns how many."""
    folder.mkdir()
    done = 0
    for stage, epochs in STAGES:
        code: int | None = -signal.SIGKILL
        while code == -signal.SIGKILL:
            process = start(stage, epochs, folder)
            if done < kills:
                try:
                    process.wait(rng.uniform(0.2, longest))
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    done += 1
            code = process.wait()
        if code != 0:
            log = (folder / "log.txt").read_text()
            raise SystemExit(f"stage={stage} ended with {code}:\n{log}")
    return done


def figures(folder: Path) -> dict[str, Any]:
    """What both stages found, every bit of it."""
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
            # Moments spread over a whole stage and a little more, so that it can also end.
            kills += finish(folder, given.kills - kills, 1.2 * calm / len(STAGES), rng)
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
