"""A tracker that a training never waits for: a thread of its own does what the library does."""

import io
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray

from hep2.trackers.loggers import Tracker, one_line

PATIENCE = 60.0  # seconds, for one call of a library, and for all that is left when a run ends


class OpenRun(ABC):
    """A run as a tracker's library knows it. Whatever a method raises, the tracker is lost."""

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float], step: int | None) -> None:
        """Log metrics over the optimizer step."""

    @abstractmethod
    def log_image(self, key: str, image: NDArray[np.uint8], caption: str, step: int | None) -> None:
        """Log a picture, (H, W) grey or (H, W, 3) RGB; without a step, one of the whole run."""

    @abstractmethod
    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Log a table, where the tracker has tables."""

    @abstractmethod
    def log_summary(self, metrics: Mapping[str, float]) -> None:
        """Log the run's final metrics."""

    @abstractmethod
    def finish(self, exit_code: int) -> None:
        """End the run."""


Action = Callable[[OpenRun], None]


class Background(Tracker):
    """Hands everything to an `OpenRun` in a thread, which starts with the first thing logged.

    The first exception, or a call that takes longer than PATIENCE, ends the tracker with one
    warning; `metrics.csv` is the record.

    Args:
        run_dir: The run's.
        title: What the tracker is called in a sentence.
        package: What `pip install` needs to be told.
        start: Imports the library and opens the run; called in the thread.
    """

    def __init__(
        self, run_dir: Path, title: str, package: str, start: Callable[[], OpenRun]
    ) -> None:
        super().__init__(run_dir, title)
        self._package, self._start = package, start
        self._thread: Thread | None = None
        self._waiting: SimpleQueue[Action | None] | None = None  # None in it: there is no more
        self._busy_since: float | None = None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics over the optimizer step."""
        self._do(lambda run: run.log_metrics(_numbers(metrics), step))

    def log_images(
        self, key: str, images: Sequence[NDArray[np.uint8]], captions: Sequence[str], step: int
    ) -> None:
        """Log pictures; of several the others get a number."""

        def send(run: OpenRun) -> None:
            for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
                run.log_image(f"{key}/{i}" if i else key, image, caption, step)

        self._do(send)

    def log_summary(self, metrics: Mapping[str, Any]) -> None:
        """Log the run's final metrics; those without a value are left out."""
        self._do(lambda run: run.log_summary(_numbers(metrics)))

    def log_record(self, make: Callable[[], Any]) -> None:
        """Log the report's pictures and the predictions; drawn here, as threads draw badly."""
        if self._lost:
            return
        try:
            record = make()
        except Exception as error:
            self._give_up(one_line(error))
            return

        def send(run: OpenRun) -> None:
            for picture in record.pictures:
                run.log_image(f"report/{picture.kind}", _rgb(picture.png), picture.caption, None)
            if record.rows:
                run.log_table("report/predictions", record.columns, record.rows)

        self._do(send)

    def finish(self, exit_code: int) -> None:
        """End the run with the job's exit code, in bounded time and without raising."""
        thread, waiting = self._thread, self._waiting
        if thread is None or waiting is None or self._lost:
            return
        self._do(lambda run: run.finish(exit_code))
        waiting.put(None)
        thread.join(PATIENCE)
        if thread.is_alive():
            self._give_up(f"it did not finish within {PATIENCE:g} s")
        self._thread = self._waiting = None

    def _do(self, action: Action) -> None:
        """Have something done with the run, open or not; nothing once the tracker is lost."""
        since = self._busy_since
        if since is not None and time.monotonic() - since > PATIENCE:
            self._give_up(f"it has not answered for {PATIENCE:g} s")
        if self._lost:
            return
        if self._waiting is None:
            self._waiting = SimpleQueue()
            self._thread = Thread(target=self._work, args=(self._waiting,), daemon=True)
            self._thread.start()
        self._waiting.put(action)

    def _work(self, waiting: "SimpleQueue[Action | None]") -> None:
        try:
            self._busy_since = time.monotonic()
            run = self._start()
            self._busy_since = None
            while not self._lost and (action := waiting.get()) is not None:
                self._busy_since = time.monotonic()
                action(run)
                self._busy_since = None
        except ModuleNotFoundError as error:
            what = error.name or self._package
            self._give_up(f"{what} is not installed: pip install {self._package}")
        except BaseException as error:  # of a library that would end the process as well
            self._give_up(one_line(error))


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if value is not None}


def _rgb(png: bytes) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
