"""Trackio: a dashboard on this machine without any account, a Hugging Face Space, a server."""

import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hep2.config import flat
from hep2.files import write_atomic
from hep2.trackers.background import Background, OpenRun
from hep2.trackers.loggers import TrackerSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackioSettings(TrackerSettings):
    """What a user chooses about Trackio; `conf/logger/trackio.yaml` explains it."""

    project: str = "hep2"
    folder: str = "runs/trackio"
    space_id: str | None = None
    server_url: str | None = None
    tags: Sequence[str] = ()

    def tracker(self, run_dir: Path, description: Mapping[str, Any]) -> Background:
        """The logger of one run."""
        start = partial(TrackioRun, self, run_dir, description)
        return Background(run_dir, "Trackio", "trackio", start)


class TrackioRun(OpenRun):
    """A run of Trackio's, which knows runs by their names: the run's ID is the end of its own.

    Raises:
        ModuleNotFoundError: Trackio is not installed.
        ValueError: the project, the Space or the server is none.
    """

    def __init__(
        self, settings: TrackioSettings, run_dir: Path, description: Mapping[str, Any]
    ) -> None:
        self._trackio = _imported(Path(settings.folder).resolve())
        id_file = run_dir / "trackio" / "run-id"
        if not id_file.is_file():
            write_atomic(id_file, uuid.uuid4().hex[:8])
        self._run: Any = self._trackio.init(
            project=settings.project,
            name=f"{description['name']}-{id_file.read_text(encoding='utf-8').strip()}",
            group=description["group"],
            config={
                "stage": description["job_type"],
                "tags": ", ".join(description["tags"]),
                **flat(description["config"]),
            },
            space_id=settings.space_id,
            server_url=settings.server_url,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log_metrics(self, metrics: Mapping[str, float], step: int | None) -> None:
        """Log them at their step; without one behind all others."""
        self._run.log(dict(metrics), step=step)

    def log_image(self, key: str, image: NDArray[np.uint8], caption: str, step: int | None) -> None:
        """Log a picture with its caption."""
        self._run.log({key: self._trackio.Image(image, caption=caption)}, step=step)

    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Log a table."""
        self._run.log({key: self._trackio.Table(columns=[*columns], data=[[*row] for row in rows])})

    def log_summary(self, metrics: Mapping[str, float]) -> None:
        """Metrics as all others."""
        self.log_metrics(metrics, None)

    def finish(self, exit_code: int) -> None:
        """Wait until all is written; Trackio keeps no exit code."""
        self._run.finish()


def _imported(folder: Path) -> Any:
    """Trackio, told where to keep its files, and no chatter from it beside a progress bar.

    It takes the folder from the environment when it is imported, once in a process. It prints, and
    it warns of whatever it loses, call by call: the first sentence of that is passed on.
    """
    named = "TRACKIO_DIR" in os.environ
    os.environ.setdefault("TRACKIO_DIR", str(folder))
    try:
        import trackio
        import trackio.run
        import trackio.utils
    finally:
        if not named:
            del os.environ["TRACKIO_DIR"]
    said: list[str] = []

    def complain(message: str, *_: Any, **__: Any) -> None:
        if not said:
            log.warning("Trackio: %s", message)
        said.append(message)

    for module in (trackio, trackio.run, trackio.utils):
        names: dict[str, Any] = vars(module)
        names["print"] = log.debug
        names["_emit_nonfatal_warning"] = complain
    return trackio
