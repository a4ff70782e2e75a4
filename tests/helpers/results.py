"""What a finished run has written down."""

import json
from typing import Any

from hep2.rundir.directory import RunDir


def result(run: RunDir) -> dict[str, Any]:
    """All of its result.json."""
    stored: dict[str, Any] = json.loads(run.result.read_text())
    return stored
