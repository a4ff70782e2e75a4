"""The loggers of a run while it trains: its files always, and trackers where there are any."""

import io
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray

from hep2.config import redacted
from hep2.errors import HEp2Error
from hep2.files import write_atomic
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import Identity
from hep2.rundir.metrics_csv import MetricsCsv

log = logging.getLogger(__name__)

BEGUN_ANEW = ("metrics.csv", "*/run-id", "tensorboard/events.*")

LONGEST_TAG = 64  # characters; W&B refuses longer tags,
LONGEST_GROUP = 128  # and longer groups


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


class Tracker(RunLogger):
    """A logger that may be lost at any moment, with one warning: `metrics.csv` is the record."""

    def __init__(self, run_dir: Path, title: str) -> None:
        super().__init__(run_dir)
        self._title = title  # what it is called in a sentence
        self._process = os.getpid()
        self._lost = False

    def finalize(self, status: str) -> None:
        """End the run here where Lightning forked this process, which exits after the fit."""
        if os.getpid() != self._process:
            self.finish(0 if status == "success" else 1)

    def _give_up(self, why: str) -> None:
        if not self._lost:
            log.warning("%s is off from here on (%s); metrics.csv goes on", self._title, why)
        self._lost = True


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


def make_loggers(
    entries: Mapping[str, Any] | None,
    run_dir: Path,
    identity: Identity,
    config: Mapping[str, Any],
) -> list[Logger]:
    """The loggers of one run: its files first, then one for each entry of the configuration.

    Without a `last.ckpt` the run starts from the beginning, and so do `metrics.csv` and the runs in
    trackers; with one they go on.

    Args:
        entries: The instantiated `logger` group: settings of trackers, or loggers of Lightning.
        run_dir: Everything is written below it, but for stores that runs share.
        identity: Names, groups and tags the run in every tracker.
        config: The resolved configuration in built-in containers.

    Raises:
        HEp2Error: an entry is not a logger, or the W&B mode is unknown.
    """
    if not RunDir(run_dir).last.is_file():
        for file in (found for pattern in BEGUN_ANEW for found in run_dir.glob(pattern)):
            rank_zero_only(Path.unlink)(file, missing_ok=True)
    loggers: list[Logger] = [RunFiles(run_dir)]
    for name, entry in (entries or {}).items():
        if isinstance(entry, TrackerSettings):
            description = describe(identity, entry.tags) | {"config": redacted(config)}
            tracker = entry.tracker(run_dir, description)
            loggers += [tracker] if tracker is not None else []
        elif isinstance(entry, Logger):
            loggers.append(entry)
        else:
            advice = "give it a _target_, as conf/logger/wandb.yaml does"
            raise HEp2Error(f"logger.{name} is not a logger: {advice}")
    return loggers


def describe(identity: Identity, extra_tags: Sequence[str] = ()) -> dict[str, Any]:
    """How trackers name, group and tag a run; the group leaves out fold and seed, for averages."""
    i = identity
    tags = [i.data, i.protocol, i.method, *extra_tags]
    tags += ["leaky"] * i.leaky + ["synthetic"] * i.synthetic
    return {
        "name": f"{i.method}-fold{i.fold}-seed{i.seed}",
        "group": f"{i.name}-{i.data}-{i.protocol}-{i.method}"[:LONGEST_GROUP],
        "job_type": i.stage,
        "tags": [tag[:LONGEST_TAG] for tag in dict.fromkeys(tags)],
    }


@rank_zero_only
def log_images(
    loggers: Sequence[Logger],
    key: str,
    images: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    step: int,
) -> None:
    """Write pictures into the run directory, and send them to the trackers.

    Args:
        loggers: Those that `make_loggers` did not make are passed over.
        key: What the pictures show, e.g. "val/reconstruction".
        images: (H, W) grey or (H, W, 3) RGB, uint8.
        captions: One for each image.
        step: The optimizer step.
    """
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.log_images(key, images, captions, step)


@rank_zero_only
def log_summary(loggers: Sequence[Logger], metrics: Mapping[str, Any]) -> None:
    """Log the final metrics in the trackers; `result.json` is their place among the files."""
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.log_summary(metrics)


@rank_zero_only
def log_record(loggers: Sequence[Logger], record: Callable[[], Any]) -> None:
    """Send a finished run's predictions and the report's pictures of it to the trackers.

    `record` makes a `hep2.evaluation.report.RunRecord`; once, and only where a tracker wants it.
    """
    record = cache(record)
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.log_record(record)


@rank_zero_only
def finish(loggers: Sequence[Logger], exit_code: int) -> None:
    """End the trackers' runs with the job's exit code; call it in a `finally`. Never raises."""
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.finish(exit_code)


class RunFiles(RunLogger):
    """Writes every row of metrics into `<run_dir>/metrics.csv` at once, pictures into `pictures/`.

    Lightning's own CSVLogger deletes what it finds. This one goes on.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self._metrics = MetricsCsv(run_dir / "metrics.csv")

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add one row, or raise HEp2Error where it cannot be written."""
        values = {"step": "" if step is None else step, **metrics}
        numbers = {k: v.item() if hasattr(v, "item") else v for k, v in values.items()}
        self._metrics.add({key: str(number) for key, number in numbers.items()})

    def log_images(
        self, key: str, images: Sequence[NDArray[np.uint8]], captions: Sequence[str], step: int
    ) -> None:
        """Write `pictures/<key>-step<step>-<i>.png`, the caption as the PNG's description."""
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
            text = PngInfo()
            text.add_itxt("Description", caption)
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG", pnginfo=text)
            name = f"{key.replace('/', '-')}-step{step:06d}-{i}.png"
            write_atomic(self._run_dir / "pictures" / name, buffer.getvalue())
