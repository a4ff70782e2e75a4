"""MLflow: a store of the runs' own in SQLite, or a server."""

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hep2.config import flat, in_sweep
from hep2.files import write_atomic
from hep2.trackers.background import Background, OpenRun
from hep2.trackers.loggers import TrackerSettings

LONGEST_PARAM = 500  # characters; longer values are refused,
MOST_PARAMS = 100  # and more of them in one call
UNLESS_SET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # it would tell of its own tables
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # by default a server that is gone costs minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",  # seconds
}


@dataclass(frozen=True)
class MlflowSettings(TrackerSettings):
    """What a user chooses about MLflow; `conf/logger/mlflow.yaml` explains it."""

    experiment: str = "hep2"
    folder: str = "runs/mlflow"
    uri: str | None = None
    tags: Sequence[str] = ()

    def tracker(self, run_dir: Path, description: Mapping[str, Any]) -> Background:
        """The logger of one run."""
        return Background(
            run_dir, "MLflow", "mlflow", partial(MlflowRun, self, run_dir, description)
        )


class MlflowRun(OpenRun):
    """A run of MLflow's, through its client.

    Lightning's MLFlowLogger would set the store for the whole process, and two jobs of a sweep that
    make the experiment at once would lose one of them.

    Raises:
        MlflowException: the store or the server refuses, or does not answer.
        ModuleNotFoundError: MLflow is not installed.
    """

    def __init__(
        self, settings: MlflowSettings, run_dir: Path, description: Mapping[str, Any]
    ) -> None:
        for name, value in UNLESS_SET.items():
            os.environ.setdefault(name, value)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # tells every retry
        from mlflow import MlflowClient

        folder = Path(settings.folder).resolve()
        own = f"sqlite:///{folder}/mlflow.db"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or settings.uri or own
        if uri == own:
            folder.mkdir(parents=True, exist_ok=True)
        self._client: Any = MlflowClient(uri)
        self._captions: dict[str, str] = {}
        id_file = run_dir / "mlflow" / "run-id"
        run = self._begun(id_file)
        if run is None:
            artifacts = (folder / "artifacts").as_uri() if uri == own else None
            run = self._begin(self._experiment(settings.experiment, artifacts), description)
            write_atomic(id_file, run.info.run_id)
        self._id: str = run.info.run_id
        self._log_params(run.data.params, description["config"])

    def log_metrics(self, metrics: Mapping[str, float], step: int | None) -> None:
        """Log them in one call."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        values = [Metric(_key(name), value, now, step or 0) for name, value in metrics.items()]
        self._client.log_batch(self._id, metrics=values)

    def log_image(self, key: str, image: NDArray[np.uint8], caption: str, step: int | None) -> None:
        """With a step beside the charts, without one as an artifact; captions go into the note."""
        if step is None:
            self._client.log_image(self._id, image, artifact_file=f"{key}.png")
        else:
            self._client.log_image(self._id, image, key=key, step=step)
        self._captions[key] = caption
        note = "\n\n".join(f"**{key}**: {caption}" for key, caption in self._captions.items())
        self._client.set_tag(self._id, "mlflow.note.content", note)

    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """An artifact that MLflow shows as a table."""
        table = dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))
        self._client.log_table(self._id, table, f"{key}.json")

    def log_summary(self, metrics: Mapping[str, float]) -> None:
        """Metrics as all others."""
        self.log_metrics(metrics, None)

    def finish(self, exit_code: int) -> None:
        """Close the run."""
        self._client.set_terminated(self._id, "FAILED" if exit_code else "FINISHED")

    def _begun(self, id_file: Path) -> Any:
        """The run to go on with, None for a new one: the environment's, or the run directory's."""
        from mlflow.exceptions import MlflowException

        given = None if in_sweep() else os.environ.get("MLFLOW_RUN_ID")
        if given:
            return self._client.get_run(given)
        try:
            kept = self._client.get_run(id_file.read_text(encoding="utf-8").strip())
            self._client.update_run(kept.info.run_id, status="RUNNING")
        except (FileNotFoundError, MlflowException):  # or another store by now, or one cleared
            return None
        return kept

    def _experiment(self, name: str, artifacts: str | None) -> str:
        from mlflow.exceptions import MlflowException

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or name
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=artifacts))
            except MlflowException:  # another job of a sweep was faster
                found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id)

    def _begin(self, experiment: str, told: Mapping[str, Any]) -> Any:
        tags = {"group": told["group"], "stage": told["job_type"], "tags": ", ".join(told["tags"])}
        return self._client.create_run(experiment, run_name=told["name"], tags=tags)

    def _log_params(self, known: Mapping[str, str], config: Mapping[str, Any]) -> None:
        """Add the settings that the run does not have yet: a parameter cannot be changed."""
        from mlflow.entities import Param

        named = {_key(name): str(value)[:LONGEST_PARAM] for name, value in flat(config).items()}
        left = (Param(name, value) for name, value in named.items() if name not in known)
        while some := list(islice(left, MOST_PARAMS)):
            self._client.log_batch(self._id, params=some)


def _key(name: str) -> str:
    """A name as MLflow takes them."""
    return re.sub(r"[^\w./ -]", "_", name)
