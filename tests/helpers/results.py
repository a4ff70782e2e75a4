"""What a finished run has written down, and changes to it."""

import csv
import json
from pathlib import Path
from typing import Any

from hep2.rundir.directory import RunDir


def result(run: RunDir) -> dict[str, Any]:
    """All of its result.json."""
    stored: dict[str, Any] = json.loads(run.result.read_text())
    return stored


def keep(path: Path, **kept: Any) -> None:
    """Change values of the result.json in a run's directory, or add some."""
    file = path / "result.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | kept))


def rows_of(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))
