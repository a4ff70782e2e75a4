"""The golden record: what a few small runs give, to the last bit, before and after a change.

    python -m benchmarks.golden keep golden.json     # before: about three minutes on two cores
    python -m benchmarks.golden compare golden.json  # after: prints what differs, exits with 1

Every stage, kind of head and kind of feature is trained on two small folds of simulated cells.
Compared are all bytes of `predictions.csv` and `results.csv`, and all of every `result.json` but
what depends on the day: times, versions, the command. Both sides on one machine: another
processor rounds otherwise.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SETTINGS = (
    *("data=synthetic", "data.source.cells=120", "data.source.specimens=20"),
    *("model.network.widths=[4,8,8,256]", "stage.epochs=3", "stage.batch_size=8"),
    *("features.orientations=2", "trainer.accelerator=cpu", "~callbacks.progress"),
    "trainer.precision=32-true",
    *("logger=csv", "name=golden"),
)
SWEEPS = (
    ["stage=dcae,head", "fold=0,1"],
    ["experiment=handcrafted_svm,codebook_nch,dcae_knn,dcae_clustering,cnn", "fold=0"],
)
OF_THE_DAY = {"seconds", "encoder_seconds", "git_commit", "versions", "command"}

Record = dict[str, Any]


def record(folder: Path) -> Record:
    """Run everything below a folder; what it gave, by file."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    where = [f"runs_dir={folder}/runs"]

    def python(*words: str) -> None:
        subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True)

    for sweep in SWEEPS:
        python("train.py", "-m", *SETTINGS, *where, f"cache_dir={folder}/cache", *sweep)
    python("evaluate.py", "name=golden", *where, f"reports_dir={folder}/reports")
    found: Record = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if file.name in ("predictions.csv", "results.csv"):
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        elif file.name == "result.json":
            result = json.loads(file.read_bytes())
            found |= {f"{name}: {k}": v for k, v in result.items() if k not in OF_THE_DAY}
    return found


def differences(before: Record, after: Record) -> list[str]:
    """One line for each thing that is not the same."""
    return [
        f"{name}:\n  before {_short(before.get(name))}\n  after  {_short(after.get(name))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _short(value: Any) -> str:
    return "absent" if value is None else json.dumps(value)[:400]


def main() -> None:
    """Keep a record, or compare with one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("keep", "compare"))
    parser.add_argument("file", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = record(Path(folder))
    if asked.what == "keep":
        asked.file.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{len(found)} entries in {asked.file}")
        return
    different = differences(json.loads(asked.file.read_text()), found)
    print("\n".join([*different, f"{len(different)} of {len(found)} entries differ"]))
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
