"""The run directory: whether a run is finished, and what may be written into it."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from hep2.config import encoders_of, is_estimator, redacted
from hep2.errors import HEp2Error
from hep2.files import write_atomic


@dataclass(frozen=True)
class RunDir:
    """One run's directory and the files in it."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def last(self) -> Path:
        """The last checkpoint, of a whole epoch, from which a run resumes."""
        return self.path / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The checkpoint before the last, while a run trains."""
        return self.path / "previous.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint of the epoch with the lowest validation loss."""
        return self.path / "best.ckpt"

    @property
    def predictions(self) -> Path:
        """One row a test cell."""
        return self.path / "predictions.csv"

    @property
    def result(self) -> Path:
        """The figures of the run; written last, so its presence means that the run is finished."""
        return self.path / "result.json"

    @property
    def tuning(self) -> Path:
        """What the trials of `tuning.grid` gave so far."""
        return self.path / "tuning.json"

    @property
    def log(self) -> Path:
        """What a job of a sweep printed."""
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by the process that works here: `hep2.lock`."""
        return self.path / ".lock"

    @property
    def finished(self) -> bool:
        """Whether the run has ended well."""
        return self.result.is_file()

    def claim(self, cfg: DictConfig) -> None:
        """Store the configuration here, or make sure that the one stored here asks for the same.

        A run that failed before its first checkpoint has nothing to lose and is started anew.

        Raises:
            HEp2Error: the directory holds a run of another configuration; the message lists what
                differs. Nothing is changed.
        """
        if cfg.overwrite:
            self._clear()
        else:
            self.check(cfg)
            if self.config.is_file() and (self.finished or self.last.is_file()):
                self._sweep()
                return
        self._sweep()
        asked = redacted(OmegaConf.to_container(cfg, resolve=True))
        write_atomic(self.config, OmegaConf.to_yaml(OmegaConf.create(asked)))

    def check(self, cfg: DictConfig) -> None:
        """Make sure that a run kept here is the one that is asked for. Nothing is written.

        Raises:
            HEp2Error: as `claim` does.
        """
        if not self.config.is_file() or not (self.finished or self.last.is_file()):
            return
        differences = configuration_differences(self._stored(), cfg)
        if differences:
            raise HEp2Error(
                f"{self.path} holds a run of another configuration "
                f"({'; '.join(differences)}): choose another name=..., or overwrite=true"
            )

    def _stored(self) -> Any:
        try:
            text = self.config.read_text(encoding="utf-8")
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
                raise ValueError("references, which may unfold to any size")
            return OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        except Exception as error:  # the reader of foreign text fails in a dozen ways
            raise HEp2Error(
                f"{self.config} cannot be read ({type(error).__name__}): delete {self.path}, "
                "or run again with overwrite=true"
            ) from error

    def _clear(self) -> None:
        # The result goes first: a run that is being made anew must not look finished.
        for file in (
            self.result,
            self.predictions,
            self.last,
            self.previous,
            self.best,
            self.tuning,
            self.config,
        ):
            file.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what a process that was killed had begun to write."""
        for name in (".*.ckpt", ".*.json", ".*.csv", ".*.yaml", "pictures/.*.png"):
            for file in self.path.glob(f"{name}.?*"):
                file.unlink(missing_ok=True)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, and with it declare the run finished."""
        write_atomic(self.result, json.dumps(result, indent=2, allow_nan=False) + "\n")


# Settings that change where or how fast a run is computed, not what it computes. A run may be
# resumed, or its encoder used, with others than it was started with.
INCIDENTAL = (
    "overwrite",
    "fail_fast",
    "checkpoint_seconds",
    "runs_dir",
    "cache_dir",
    "logger",
    "data.root",
    "data.source.root",
    "data.workers",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)

# Settings that came later, with what runs did before: absent means this.
LATER = {"features.test_orientations": 1}

# Choices that a stage's task does not read: sweeping over them does not touch its runs.
UNREAD = {
    "autoencoder": ("head", "features", "encoder"),
    "head": ("augment",),
    "supervised": ("features",),
    "clustering": ("head", "features", "tuning"),
}


def configuration_differences(stored: Any, asked: DictConfig) -> list[str]:
    """What differs between two configurations of a run, as `key: this there, that asked`.

    Settings that do not change the run's numbers are left out: INCIDENTAL and UNREAD.
    """
    old = LATER | _flat(stored)
    new = LATER | _flat(redacted(OmegaConf.to_container(asked, resolve=True)))
    unread = UNREAD.get(asked.stage.task, ())
    if asked.stage.task == "head" and asked.model.name not in encoders_of(asked).values():
        unread = (*unread, "model")  # features that no network of that model makes
    if asked.stage.task == "head" and is_estimator(asked.head):
        unread = (*unread, "tuning")  # such a head has a grid of its own
    missing = "absent"
    return [
        f"{key}: {old.get(key, missing)} there, {new.get(key, missing)} asked"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, missing) != new.get(key, missing)
        and not _among(key, (*INCIDENTAL, *unread))
    ]


def _among(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(name + ".") for name in names)


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


FILE = "failed.txt"
LONGEST = 500  # characters


@contextmanager
def noted(run_dir: Path) -> Iterator[None]:
    """Keep the reason where what is done here raises; an interruption is no failure."""
    try:
        yield
    except Exception as error:
        what = "" if isinstance(error, HEp2Error) else f"{type(error).__name__}: "
        note(run_dir, f"{what}{error}")
        raise


def note(run_dir: Path, reason: str) -> None:
    """Keep a reason, unless there is one: of several ranks the first says what was wrong."""
    if not (run_dir / FILE).exists():
        sentence = " ".join(str(redacted(reason)).split())[:LONGEST]
        with contextlib.suppress(HEp2Error):  # no room for it, perhaps the very reason
            write_atomic(run_dir / FILE, f"{sentence}\n")


def forget(run_dir: Path) -> None:
    """Begin anew."""
    with contextlib.suppress(OSError):
        (run_dir / FILE).unlink()


def reason(run_dir: Path) -> str | None:
    """The sentence that was kept; None where nothing failed."""
    try:
        return (run_dir / FILE).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
