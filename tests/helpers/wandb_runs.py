"""What W&B's own reader finds in an offline run."""

import json
import subprocess
from pathlib import Path
from typing import Any


def records(run_dir: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of the one offline run of a run directory, by their type."""
    from wandb.util import get_core_path

    (file,) = (run_dir / "wandb").glob("offline-run-*/run-*.wandb")
    # `wandb leet inspect` starts just this, but a second later.
    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json"]
    text = subprocess.run(
        [*command, "--run-file", str(file)], check=True, capture_output=True, text=True
    ).stdout
    found: dict[str, list[dict[str, Any]]] = {}
    for record in map(json.loads, text.splitlines()):
        found.setdefault(record["type"], []).append(record[record["type"]])
    return found
