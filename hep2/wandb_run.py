"""A Weights & Biases run that can be lost at any moment without harm to the training."""

import io
import logging
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers.logger import DummyLogger, Logger
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray

from hep2.files import write_atomic

if TYPE_CHECKING:
    from hep2.evaluation.report import RunRecord
import configparser
import netrc
import socket
import threading
import urllib.request
from urllib.parse import urlsplit

from hep2.errors import HEp2Error

log = logging.getLogger(__name__)
T = TypeVar("T")

INIT_SECONDS = 15.0
FINISH_SECONDS = 30.0
# Without these W&B stages what it uploads, and keeps its logs, under the user's home.
FOLDERS = {"WANDB_DATA_DIR": "data", "WANDB_ARTIFACT_DIR": "artifacts", "WANDB_CACHE_DIR": "cache"}


class WandbRun(Logger):
    """One W&B run, opened at its first use on rank zero.

    The first exception of W&B (no key, no network, a killed wandb-core, a full disk) ends it with
    one warning; `metrics.csv` is the record.

    Args:
        run_dir: Everything W&B writes goes to `<run_dir>/wandb`.
        mode: online or offline, as `choose_mode` found.
        description: For `wandb.init`: project, entity, name, group, job_type, tags, config.
    """

    def __init__(self, run_dir: Path, mode: str, description: Mapping[str, Any]) -> None:
        super().__init__()
        self._run_dir = run_dir
        self._mode = mode
        self._description = dict(description)
        self._run: Any = None
        self._lost = False
        self._borrowed = False
        self._set_variables: list[str] = []
        self._process = os.getpid()

    @property
    def name(self) -> str:
        """The project."""
        return str(self._description.get("project", ""))

    @property
    def version(self) -> str:
        """The id of the run, "" before it is opened."""
        return "" if self._run is None else str(self._run.id)

    @property
    def save_dir(self) -> str:
        """The run directory."""
        return str(self._run_dir)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The `wandb.Run`; a stand-in that does nothing once W&B is lost."""
        return self._attempt(self._open) or DummyLogger().experiment

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run was opened with the whole resolved configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics over the optimizer step."""
        self._attempt(lambda: self._open().log(_at_step(metrics, step)))

    def log_images(
        self, key: str, images: Sequence[NDArray[np.uint8]], captions: Sequence[str], step: int
    ) -> None:
        """Log pictures, (H, W) or (H, W, 3) each, under one key."""

        def send() -> None:
            import wandb

            pictures = [wandb.Image(i, caption=c) for i, c in zip(images, captions, strict=True)]
            self._open().log(_at_step({key: pictures}, step))

        self._attempt(send)

    def log_record(self, make: "Callable[[], RunRecord]") -> None:
        """Log the table of predictions and the report's pictures; drawn only if W&B is there."""

        def send() -> None:
            import wandb
            from PIL import Image

            run, record = self._open(), make()
            shown: dict[str, Any] = {}
            for picture in record.pictures:
                image = Image.open(io.BytesIO(picture.png))
                shown[f"report/{picture.kind}"] = wandb.Image(image, caption=picture.caption)
            if record.rows:
                shown["report/predictions"] = wandb.Table([*record.columns], [*record.rows])
            run.log(shown)

        self._attempt(send)

    def log_summary(self, figures: Mapping[str, Any]) -> None:
        """Set the run's final figures."""
        self._attempt(lambda: self._open().summary.update(dict(figures)))

    def finalize(self, status: str) -> None:
        """End the run here where Lightning forked this process, which exits after the fit."""
        if os.getpid() != self._process:
            self.finish(0 if status == "success" else 1)

    def finish(self, exit_code: int) -> None:
        """End the run with the job's exit code, in bounded time and without raising."""
        run, self._run = self._run, None
        if not self._borrowed:
            if run and not within(FINISH_SECONDS, lambda: self._end(run, exit_code)):
                self._give_up(f"it did not finish within {FINISH_SECONDS:g} s")
            if self._lost:
                within(FINISH_SECONDS, _forget)
        for variable in self._set_variables:
            os.environ.pop(variable, None)
        self._set_variables = []

    def _end(self, run: Any, exit_code: int) -> None:
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:
            self._give_up(f"{type(error).__name__}: {error}")

    def _attempt(self, action: Callable[[], T]) -> T | None:
        try:
            return None if self._lost else action()
        except Exception as error:
            self._give_up(f"{type(error).__name__}: {error}")
            return None

    def _give_up(self, why: str) -> None:
        if not self._lost:
            log.warning("W&B is off from here on (%s); metrics.csv goes on", why.split("\n")[0])
        self._lost = True

    def _open(self) -> Any:
        if self._run is None:
            self._run = self._start()
        return self._run

    def _start(self) -> Any:
        # W&B's own telemetry would hold Python's exit for 12 s when the server does not answer.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        current: Any = wandb.run
        if current is not None:  # opened by whoever called us, who will also finish it
            self._borrowed = True
            current.config.update(self._description["config"], allow_val_change=True)
            return current
        folder = self._run_dir / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        variables = {"WANDB_SILENT": "true"} | {k: str(folder / v) for k, v in FOLDERS.items()}
        self._set_variables = [name for name in variables if name not in os.environ]
        os.environ.update({name: variables[name] for name in self._set_variables})
        if not os.environ.get("WANDB_MODE"):
            os.environ.pop("WANDB_MODE", None)  # set but empty, W&B refuses it
        # A sweep's agent has chosen id, project and entity and put them in the environment.
        chosen = {key for key in ("project", "entity") if f"WANDB_{key.upper()}" in os.environ}
        told = {key: value for key, value in self._description.items() if key not in chosen}
        told |= {"dir": self._run_dir, "mode": self._mode, "settings": _quiet_settings(wandb)}
        if "WANDB_RUN_ID" not in os.environ and "WANDB_SWEEP_ID" not in os.environ:
            told["id"] = _run_id(folder / "run-id")
            told["resume"] = "allow" if self._mode == "online" else None
        run = wandb.init(**told)
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        if run.url:
            log.info("W&B: %s", run.url)
        return run


def _at_step(values: Mapping[str, Any], step: int | None) -> dict[str, Any]:
    # Lightning's name for the x axis. W&B's own step would refuse to go back after a resume.
    return dict(values) if step is None else {**values, "trainer/global_step": step}


def _run_id(file: Path) -> str:
    """The id kept beside the run, so that a resumed job goes on with the same W&B run."""
    if not file.is_file():
        write_atomic(file, uuid.uuid4().hex[:12])
    return file.read_text().strip()


def _quiet_settings(wandb: Any) -> Any:
    # Console capture would raise from any print() once wandb-core is gone.
    chosen: dict[str, Any] = {"silent": True, "console": "off", "init_timeout": INIT_SECONDS}
    if "finish_timeout" in wandb.Settings.model_fields:  # not in older releases
        chosen["finish_timeout"] = FINISH_SECONDS - 5
    return wandb.Settings(**chosen)


def _forget() -> None:
    """Make W&B usable for a later run of this process, and keep Python's exit from waiting."""
    wandb: Any = sys.modules.get("wandb")
    with suppress(Exception):  # no public way leads to the process, dead or hung
        wandb.sdk.wandb_setup.singleton()._connection._proc._process.kill()
    with suppress(Exception, SystemExit):
        wandb.run = None
        wandb.teardown(1)


CONNECT_SECONDS = 2.0
MODES = {mode: mode for mode in ("auto", "online", "offline", "disabled")}
MODES |= {"run": "online", "shared": "online", "dryrun": "offline"}  # W&B's older names


def choose_mode(asked: str) -> tuple[str, str]:
    """How W&B shall run, without ever asking the user and without importing wandb.

    Args:
        asked: auto, online, offline or disabled; WANDB_MODE in the environment wins over it.

    Returns:
        online, offline or disabled, and a sentence that says why it is offline when it was not
        asked to be ("" otherwise).

    Raises:
        HEp2Error: the mode is unknown.
    """
    wanted = os.environ.get("WANDB_MODE") or asked
    if wanted not in MODES:
        raise HEp2Error(
            f"logger.wandb.mode (or WANDB_MODE) is {wanted!r}: "
            "choose auto, online, offline or disabled"
        )
    mode = MODES[wanted]
    if mode in ("offline", "disabled"):
        return mode, ""
    stored = _stored_settings()
    url = os.environ.get("WANDB_BASE_URL") or stored.get("base_url", "https://api.wandb.ai")
    if not _logged_in(url, stored):  # W&B would ask for a key on a terminal, and wait for ever
        return "offline", f"no API key for {url}: `wandb login` puts later runs online"
    if mode == "auto" and not _reachable(url):
        return "offline", f"no connection to {url} within {CONNECT_SECONDS:g} s"
    return "online", ""


def _stored_settings() -> dict[str, str]:
    folder = Path(os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")).expanduser()
    parser = configparser.ConfigParser(interpolation=None)
    with suppress(configparser.Error, OSError, UnicodeDecodeError):
        parser.read(folder / "settings")
    return dict(parser["default"]) if parser.has_section("default") else {}


def _logged_in(url: str, stored: Mapping[str, str]) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    if stored.get("api_key"):
        return True
    files = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for file in files:
        with suppress(netrc.NetrcParseError, OSError):
            entry = netrc.netrc(Path(file).expanduser()).authenticators(urlsplit(url).netloc)
            return bool(entry and entry[2])
    return False


def _reachable(url: str) -> bool:
    """Whether the server, or the proxy before it, takes a TCP connection."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
    answered = threading.Event()

    def connect() -> None:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with suppress(OSError):
            socket.create_connection((parts.hostname or "", port), CONNECT_SECONDS).close()
            answered.set()

    # In a thread, because resolving the name takes no time limit.
    return within(CONNECT_SECONDS, connect) and answered.is_set()


def within(seconds: float, action: Callable[[], None]) -> bool:
    """Whether the action ended in time; if not it is left behind in a daemon thread."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
