"""TensorBoard: event files in the run directory, by Lightning's own logger."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from hep2.trackers.background import Background, OpenRun
from hep2.trackers.loggers import TrackerSettings


@dataclass(frozen=True)
class TensorBoardSettings(TrackerSettings):
    """TensorBoard has nothing to choose; `conf/logger/tensorboard.yaml` says how to look."""

    tags: Sequence[str] = ()

    def tracker(self, run_dir: Path, description: Mapping[str, Any]) -> Background:
        """The logger of one run."""
        start = partial(TensorBoardRun, run_dir, description["config"])
        return Background(run_dir, "TensorBoard", "tensorboard", start)


class TensorBoardRun(OpenRun):
    """Event files in `<run_dir>/tensorboard`; what TensorBoard groups by is the path to it.

    Raises:
        ModuleNotFoundError: TensorBoard is not installed.
        OSError: the files cannot be written.
    """

    def __init__(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        import tensorboard  # noqa: F401  # or Lightning would look for another library

        self._run_dir, self._config = run_dir, dict(config)
        self._opened: TensorBoardLogger | None = None
        threading.excepthook = partial(_told_elsewhere, threading.excepthook)

    def _logger(self, step: int | None) -> TensorBoardLogger:
        if self._opened is None:  # a resumed run takes the place of the steps that it repeats
            self._opened = TensorBoardLogger(
                self._run_dir, "tensorboard", version="", default_hp_metric=False, purge_step=step
            )
        return self._opened

    def log_metrics(self, metrics: Mapping[str, float], step: int | None) -> None:
        """Log scalars."""
        writer = self._logger(step).experiment
        for name, value in metrics.items():  # Lightning would call any error a wrong value
            writer.add_scalar(name, value, step)

    def log_image(self, key: str, image: NDArray[np.uint8], caption: str, step: int | None) -> None:
        """Log a picture; its caption is a text of the same name."""
        writer = self._logger(step).experiment
        writer.add_image(key, image, step, dataformats="HW" if image.ndim == 2 else "HWC")
        writer.add_text(key, caption, step)

    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Nothing: TensorBoard has no tables."""

    def log_summary(self, metrics: Mapping[str, float]) -> None:
        """A row in the table of HPARAMS, settings and final metrics."""
        self._logger(None).log_hyperparams(self._config, dict(metrics))

    def finish(self, exit_code: int) -> None:
        """Write what is left."""
        self._logger(None).finalize("failed" if exit_code else "success")


def _told_elsewhere(others: Callable[[Any], Any], failed: Any) -> None:
    """A hook of `threading`: what ends TensorBoard's writer is raised by the next call as well."""
    if not type(failed.thread).__module__.startswith("tensorboard."):
        others(failed)
