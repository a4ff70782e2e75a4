"""What every logger of a run has in common, and the settings of every tracker."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray

from hep2.config import redacted


class RunLogger(Logger):
    """What Lightning asks of every logger, and what else a run tells; a subclass keeps some of it.

    A run directory holds one run.
    """

    name = version = save_dir = ""

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self._run_dir = run_dir
        self.save_dir = str(run_dir)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: `config.yaml` is in the run directory, and trackers are given all of it."""

    def log_images(
        self, key: str, images: Sequence[NDArray[np.uint8]], captions: Sequence[str], step: int
    ) -> None:
        """Log pictures, (H, W) grey or (H, W, 3) RGB each, under one key."""

    def log_summary(self, metrics: Mapping[str, Any]) -> None:
        """Log the run's final metrics."""

    def log_record(self, make: Callable[[], Any]) -> None:
        """Log the `hep2.evaluation.report.RunRecord` that `make` draws."""

    def finish(self, exit_code: int) -> None:
        """End with the job's exit code, in bounded time and without raising."""


class TrackerSettings(ABC):
    """What a user chooses about a tracker: a dataclass, which `conf/logger/<name>.yaml` fills."""

    tags: Sequence[str]  # beside those that tell data, protocol and method

    @abstractmethod
    def tracker(self, run_dir: Path, description: dict[str, Any]) -> RunLogger | None:
        """The logger of one run, or None where it is switched off.

        `description` is of `hep2.trackers.loggers.describe`, with the configuration as `config`.
        """


def one_line(error: BaseException) -> str:
    """The first line of an error, without secrets."""
    return str(redacted(f"{type(error).__name__}: {error}".split("\n")[0].rstrip(": ")))


def within(seconds: float, action: Callable[[], None]) -> bool:
    """Whether the action ended in time; if not it is left behind in a daemon thread."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
