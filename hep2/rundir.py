"""The run directory: whether a run is finished, and what may be written into it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from hep2.differences import configuration_differences
from hep2.errors import HEp2Error
from hep2.files import write_atomic
from hep2.redact import redacted


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
