"""A Weights & Biases run that can be lost at any moment without harm to the training."""

import io
import logging
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray

from hep2.config import ONE_RUN, in_sweep
from hep2.errors import HEp2Error
from hep2.files import write_atomic
from hep2.trackers.loggers import Tracker, TrackerSettings, one_line, within

log = logging.getLogger(__name__)
T = TypeVar("T")

MODES = {mode: mode for mode in ("auto", "online", "offline", "disabled")}
MODES |= {"run": "online", "shared": "online", "dryrun": "offline"}  # W&B's older names
START_SECONDS = {"auto": 5.0, "online": 15.0}  # then the run starts offline
FINISH_SECONDS = 30.0
# Without these W&B stages what it uploads, and keeps its logs, under the user's home.
FOLDERS = {"WANDB_DATA_DIR": "data", "WANDB_ARTIFACT_DIR": "artifacts", "WANDB_CACHE_DIR": "cache"}


def choose_mode(asked: str) -> str:
    """The mode of W&B: WANDB_MODE in the environment wins over the configuration.

    Raises:
        HEp2Error: the mode is none of MODES.
    """
    wanted = os.environ.get("WANDB_MODE") or asked
    if wanted not in MODES:
        advice = "choose auto, online, offline or disabled"
        raise HEp2Error(f"logger.wandb.mode (or WANDB_MODE) is {wanted!r}: {advice}")
    return MODES[wanted]


@dataclass(frozen=True)
class WandbSettings(TrackerSettings):
    """What a user chooses about Weights & Biases; `conf/logger/wandb.yaml` explains the modes."""

    project: str = "hep2"
    entity: str | None = None
    mode: str = "auto"
    tags: Sequence[str] = ()
    record: bool = True

    def tracker(self, run_dir: Path, description: dict[str, Any]) -> "WandbRun | None":
        """The logger of one run; none where the mode is disabled.

        Raises:
            HEp2Error: the mode is unknown.
        """
        if (mode := choose_mode(self.mode)) == "disabled":
            return None
        whose = {"project": self.project, "entity": self.entity}
        return WandbRun(run_dir, mode, whose | description, self.record)


class WandbRun(Tracker):
    """One W&B run, opened at its first use on rank zero, without ever asking the user.

    Where there is no API key, or an online start fails within START_SECONDS, it runs offline. The
    first exception of W&B after that (a killed wandb-core, a full disk) ends it with one warning;
    `metrics.csv` is the record. Everything W&B writes goes to `<run_dir>/wandb`.

    `description` is for `wandb.init`: project, entity, name, group, job_type, tags, config;
    `record` says whether the finished run's pictures and predictions are sent.
    """

    def __init__(
        self, run_dir: Path, mode: str, description: Mapping[str, Any], record: bool = True
    ) -> None:
        super().__init__(run_dir, "W&B")
        self._mode, self._record = mode, record
        self._description = dict(description)
        self._run: Any = None
        self._borrowed = False
        self._set_variables: list[str] = []

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The `wandb.Run`; one that does nothing once W&B is lost."""
        return self._attempt(lambda run: run) or DummyLogger().experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics over the optimizer step."""
        self._attempt(lambda run: run.log(_at_step(metrics, step)))

    def log_images(
        self, key: str, images: Sequence[NDArray[np.uint8]], captions: Sequence[str], step: int
    ) -> None:
        """Log pictures, (H, W) or (H, W, 3) each, under one key."""

        def send(run: Any) -> None:
            import wandb

            pictures = [wandb.Image(i, caption=c) for i, c in zip(images, captions, strict=True)]
            run.log(_at_step({key: pictures}, step))

        self._attempt(send)

    def log_record(self, make: Callable[[], Any]) -> None:
        """Log the `hep2.evaluation.report.RunRecord` that `make` draws, only if W&B is there."""
        if not self._record:
            return

        def send(run: Any) -> None:
            import wandb
            from PIL import Image

            record = make()
            shown: dict[str, Any] = {}
            for picture in record.pictures:
                image = Image.open(io.BytesIO(picture.png))
                shown[f"report/{picture.kind}"] = wandb.Image(image, caption=picture.caption)
            if record.rows:
                shown["report/predictions"] = wandb.Table([*record.columns], [*record.rows])
            run.log(shown)

        self._attempt(send)

    def log_summary(self, metrics: Mapping[str, Any]) -> None:
        """Set the run's final metrics."""
        self._attempt(lambda run: run.summary.update(dict(metrics)))

    def finish(self, exit_code: int) -> None:
        """End the run with the job's exit code, in bounded time and without raising."""
        run, self._run = self._run, None

        def end() -> None:
            try:
                run.finish(exit_code=exit_code)
            except Exception as error:
                self._give_up(one_line(error))

        if not self._borrowed:
            if run is not None and not within(FINISH_SECONDS, end):
                self._give_up(f"it did not finish within {FINISH_SECONDS:g} s")
            if self._lost:
                within(FINISH_SECONDS, _forget)
        while self._set_variables:
            os.environ.pop(self._set_variables.pop(), None)

    def _attempt(self, action: Callable[[Any], T]) -> T | None:
        """Do something with the run, open or not; nothing once W&B is lost."""
        try:
            if not self._lost:
                self._run = self._run or self._open()
                return action(self._run)
        except Exception as error:
            self._give_up(one_line(error))
        return None

    def _open(self) -> Any:
        # W&B's own telemetry would hold Python's exit for 12 s when the server does not answer.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        current: Any = wandb.run
        if current is not None:  # opened by whoever called us, who will also finish it
            self._borrowed = True
            current.config.update(self._description["config"], allow_val_change=True)
            return current
        folder = Path(os.environ.get("WANDB_DIR") or self._run_dir) / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        variables = {"WANDB_SILENT": "true"} | {k: str(folder / v) for k, v in FOLDERS.items()}
        self._set_variables = [name for name in variables if name not in os.environ]
        os.environ.update({name: variables[name] for name in self._set_variables})
        if os.environ.get("WANDB_MODE") in ("", "auto"):
            del os.environ["WANDB_MODE"]  # W&B refuses both
        if in_sweep():
            for name in ONE_RUN:  # exported around the sweep: all of its jobs would be one run
                os.environ.pop(name, None)
        run = self._start(wandb, self._run_dir / "wandb" / "run-id")
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        if run.url:
            log.info("W&B: %s", run.url)
        return run

    def _start(self, wandb: Any, id_file: Path) -> Any:
        """Start online where that is wanted and succeeds, else offline."""
        arguments = {**self._description, "dir": os.environ.get("WANDB_DIR") or self._run_dir}
        arguments["settings"] = wandb.Settings(
            silent=True,
            console="off",  # capturing would raise from any print() once wandb-core is gone
            init_timeout=START_SECONDS.get(self._mode, 15.0),
            finish_timeout=FINISH_SECONDS - 5,
        )
        # A sweep's agent has chosen id, project and entity and put them in the environment.
        for key in ("project", "entity"):
            if f"WANDB_{key.upper()}" in os.environ:
                arguments.pop(key, None)
        agent = "WANDB_RUN_ID" in os.environ or "WANDB_SWEEP_ID" in os.environ
        if not agent:  # the id is kept, so that a resumed job goes on with the same W&B run
            if not id_file.is_file():
                write_atomic(id_file, uuid.uuid4().hex[:12])
            arguments |= {"id": id_file.read_text().strip(), "resume": "allow"}

        if self._mode != "offline":
            try:
                if wandb.login(prompt=False, verify=False):  # looks for a key; asks no server
                    return wandb.init(**arguments, mode="online")
                url = wandb.setup().settings.base_url
                why = f"no API key for {url}: `wandb login` puts later runs online"
            except Exception as error:
                why = one_line(error)
                within(FINISH_SECONDS, _forget)  # or the id stays in use
            log.info("W&B runs offline (%s)", why)
        return wandb.init(**arguments | ({} if agent else {"resume": None}), mode="offline")


def _at_step(values: Mapping[str, Any], step: int | None) -> dict[str, Any]:
    # Lightning's name for the x axis. W&B's own step would refuse to go back after a resume.
    return dict(values) if step is None else {**values, "trainer/global_step": step}


def _forget() -> None:
    """Make W&B usable for a later run of this process, and keep Python's exit from waiting."""
    wandb: Any = sys.modules.get("wandb")
    with suppress(Exception):  # no public way leads to the process, dead or hung
        wandb.sdk.wandb_setup.singleton()._connection._proc._process.kill()
    with suppress(Exception, SystemExit):
        wandb.run = None
        wandb.teardown(1)
