"""What the trials of a tuning gave, kept on disk: an interrupted one repeats one trial at most."""

import contextlib
import json
import math
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from hep2.differences import configuration_differences
from hep2.files import write_atomic
from hep2.redact import redacted
from hep2.rundir import RunDir

Settings = dict[str, Any]  # dotted keys of the configuration, e.g. {"stage.optimizer.lr": 1e-3}


class Trials:
    """The figures so far, of one run and one configuration: `tuning.json` of the run directory.

    What was noted under another configuration, or cannot be read, is forgotten.

    Args:
        run: whose settings are tuned.
        cfg: its configuration.
    """

    def __init__(self, run: RunDir, cfg: DictConfig) -> None:
        self.run = run
        self.configuration = redacted(OmegaConf.to_container(cfg, resolve=True))
        self.rows: list[dict[str, Any]] = []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            stored = json.loads(run.tuning.read_bytes())
            if not configuration_differences(stored["configuration"], cfg):
                self.rows = [_checked(row) for row in stored["trials"]]

    def figure(self, settings: Settings, fold: int) -> float | None:
        """The figure of a trial; None where there is none yet."""
        for row in self.rows:
            if row["settings"] == settings and row["fold"] == fold:
                return -math.inf if row["figure"] is None else row["figure"]
        return None

    @rank_zero_only
    def note(self, settings: Settings, fold: int, figure: float) -> None:
        """Keep a figure; minus infinity, which JSON lacks, becomes null.

        Raises:
            HEp2Error: the file cannot be written.
        """
        kept = figure if math.isfinite(figure) else None
        self.rows.append({"settings": settings, "fold": fold, "figure": kept})
        content = {"configuration": self.configuration, "trials": self.rows}
        write_atomic(self.run.tuning, json.dumps(content, indent=1) + "\n")


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    figure = None if row["figure"] is None else float(row["figure"])
    if figure is not None and not math.isfinite(figure):
        raise ValueError("a figure that is never written")
    return {"settings": dict(row["settings"]), "fold": int(row["fold"]), "figure": figure}
