"""The run directory: its files, who may write there, and why a run failed."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from hep2.config import flat, is_estimator, plain, redacted
from hep2.errors import HEp2Error, asked_to_end
from hep2.files import write_atomic

LONGEST_REASON = 500  # characters

# Settings that change where or how fast a run is computed, or what is watched on the way, not what
# is computed. A run may be resumed, or its encoder used, with others than it was started with.
INCIDENTAL = (
    "overwrite", "fail_fast", "checkpoint_seconds", "runs_dir", "cache_dir", "logger",
    "data.root", "data.source.root", "data.workers",
    "stage.kind", "stage.label", "stage.unread",
    "stage.calibration",  # it moves no probability: a finished run keeps what it has learned
    "stage.initial",  # what runs of before have for stage.encoders
    "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy",
    "trainer.enable_progress_bar", "trainer.log_every_n_steps", "trainer.enable_model_summary",
    "trainer.profiler", "trainer.detect_anomaly", "trainer.num_sanity_val_steps",
    "trainer.enable_autolog_hparams", "trainer.reload_dataloaders_every_n_epochs",
)  # fmt: skip

# Callbacks that only show or watch, by their classes, whatever they are called.
SHOWING = re.compile(
    r"(ProgressBar|ModelSummary|StatsMonitor|LearningRateMonitor|ThroughputMonitor"
    r"|\.ReconstructionPictures|\.LinearProbe)$"
)

# Settings that came later, with what runs did before: absent means this.
LATER: dict[str, Any] = {
    "data.full_scale": None,
    "data.page": None,
    "data.unlabelled": None,
    "data.source.columns": None,
    "data.source.layout": None,
    "data.source.merge_spellings": False,
    "data.source.mixed": [],
    "head.standardise": True,
    "model.network.bounded": True,
    "protocol.labelled": None,
    "recipe": 1,
    "stage.epoch_batches": None,
    "stage.objective.name": "reconstruction",
    "stage.objective.positives": "cell",
}


@dataclass(unsafe_hash=True)
class RunDir:
    """One run's directory and the files in it; equal to any other of the same path."""

    path: Path

    def __post_init__(self) -> None:
        self.config = self.path / "config.yaml"  # the resolved configuration
        self.last = self.path / "last.ckpt"  # of the last whole epoch: from it a run resumes
        self.previous = self.path / "previous.ckpt"  # the one before the last, while a run trains
        self.best = self.path / "best.ckpt"  # of the epoch with the lowest validation loss
        self.fitted = self.path / "fitted.ckpt"  # what a method has fitted beside its networks
        self.metrics = self.path / "metrics.csv"  # what was logged, row by row
        self.predictions = self.path / "predictions.csv"  # one row a test cell
        self.held_out = self.path / "held_out.csv"  # one row a training cell that was held out
        self.result = self.path / "result.json"  # written last: its presence means "finished"
        self.tuning = self.path / "tuning.json"  # what the trials of `tuning.grid` gave so far
        self.log = self.path / "log.txt"  # what a job of a sweep printed
        self.failed = self.path / "failed.txt"  # one sentence: why the last attempt failed
        self.lock = self.path / ".lock"  # held by the process at work here: `hep2.files.locked`

    @property
    def finished(self) -> bool:
        """Whether the run has ended well."""
        return self.result.is_file()

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, and with it declare the run finished."""
        write_atomic(self.result, json.dumps(result, indent=2, allow_nan=False) + "\n")

    def claim(self, cfg: DictConfig) -> None:
        """Store the configuration here, unless the same one (see `check`) is stored already.

        A run that failed before its first checkpoint has nothing to lose and starts again.

        Raises:
            HEp2Error: as `check` does. Nothing is changed.
        """
        if cfg.overwrite:  # the result goes first: a run that begins anew must not look finished
            for file in (self.result, self.predictions, self.last, self.previous, self.best,
                         self.fitted, self.held_out, self.tuning, self.config):  # fmt: skip
                file.unlink(missing_ok=True)
        else:
            self.check(cfg)
        for name in (".*.ckpt", ".*.json", ".*.csv", ".*.yaml", "pictures/.*.png"):
            for file in self.path.glob(f"{name}.?*"):  # which a killed process had begun to write
                file.unlink(missing_ok=True)
        if not self._worth_keeping():
            write_atomic(self.config, OmegaConf.to_yaml(OmegaConf.create(redacted(plain(cfg)))))

    def check(self, cfg: DictConfig) -> None:
        """Make sure that a run kept here is the one that is asked for. Nothing is written.

        Raises:
            HEp2Error: the stored configuration is another; the message lists what differs.
        """
        if self._worth_keeping() and (different := configuration_differences(self.stored(), cfg)):
            remedy = "choose another name=..., or overwrite=true"
            if different[0].startswith("trainer.precision: ") and len(different) == 1:
                precision = different[0].split()[1]  # of another kind of processor, as a rule
                remedy = f"trainer.precision={precision} goes on in it; or {remedy}"
            raise HEp2Error(
                f"{self.path} holds a run of another configuration ({'; '.join(different)}): "
                f"{remedy}"
            )

    def _worth_keeping(self) -> bool:
        return self.config.is_file() and (self.finished or self.last.is_file())

    def stored(self) -> Any:
        """The configuration that is kept here, resolved, as plain containers.

        Raises:
            HEp2Error: there is none, or it cannot be read.
        """
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

    @contextmanager
    def recording_failure(self) -> Iterator[None]:
        """Keep the reason where what is done here raises; an interruption is not a failure."""
        try:
            yield
        except Exception as error:
            if asked_to_end(error):
                raise
            what = "" if isinstance(error, HEp2Error) else f"{type(error).__name__}: "
            self.record_failure(f"{what}{error}")
            raise

    def record_failure(self, reason: str) -> None:
        """Keep a reason, unless there is one: of several ranks the first says what was wrong."""
        if not self.failed.exists():
            sentence = " ".join(str(redacted(reason)).split())[:LONGEST_REASON]
            with suppress(HEp2Error):  # no room for it, perhaps the very reason
                write_atomic(self.failed, f"{sentence}\n")

    def notes(self) -> list[str]:
        """What was odd about its data, once it is finished."""
        with suppress(OSError, ValueError, RecursionError):
            return notes_of(json.loads(self.result.read_bytes()))
        return []

    def forget_failure(self) -> None:
        """Begin again."""
        with suppress(OSError):
            self.failed.unlink()

    def failure_reason(self) -> str | None:
        """The sentence that was kept; None where nothing failed."""
        with suppress(OSError):
            return self.failed.read_text(encoding="utf-8", errors="replace").strip()
        return None


def notes_of(result: Any) -> list[str]:
    """What was odd about a run's data, by its result.json; nothing where it does not say."""
    notes = result.get("notes") if isinstance(result, dict) else None
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []


def damaged(file: Path, what: str) -> HEp2Error:
    """The error to raise for a file of a run that cannot be what the run wrote."""
    remedy = f"delete {file.parent} and run its command again"
    told = what if len(what) <= LONGEST_REASON else f"{what[:LONGEST_REASON]} ..."
    return HEp2Error(f"{file} is damaged or foreign: {told}; {remedy}")


def configuration_differences(stored: Any, asked: DictConfig) -> list[str]:
    """What differs between two configurations of a run, as `key: this there, that asked`.

    Settings that do not change the run's numbers are left out: INCIDENTAL, what the stage does not
    read, and what its features or its head do not.
    """
    new = LATER | flat(_with_callbacks_that_act(redacted(plain(asked))))
    old = LATER | _with_encoders(flat(_with_callbacks_that_act(stored)), new)
    ignored = [*INCIDENTAL, *asked.stage.unread]
    if asked.stage.get("learn_from") == "pool":  # whoever's labels are read, and wherever
        ignored += ["protocol.labelled", "protocol.validation"]
    if asked.stage.get("tuned") is False:  # whatever the grid, it is not tried
        ignored.append("tuning")
    if "features" not in asked.stage.unread:
        if asked.model.name not in asked.stage.encoders.values():
            ignored.append("model")  # features that no network of that model makes
        if is_estimator(asked.head):  # such a head has a grid of its own, and no epochs
            ignored += ["tuning", "stage.sampling", "stage.epoch_batches"]
    pairs = ((key, old.get(key, "absent"), new.get(key, "absent")) for key in sorted(old | new))
    return [
        f"{key}: {kept} there, {wanted} asked"
        for key, kept, wanted in pairs
        if kept != wanted and not any(f"{key}.".startswith(f"{name}.") for name in ignored)
    ]


def _with_callbacks_that_act(configuration: Any) -> Any:
    """A configuration without the callbacks that are SHOWING."""
    if not isinstance(configuration, dict) or not isinstance(configuration.get("callbacks"), dict):
        return configuration
    act = {
        name: settings
        for name, settings in configuration["callbacks"].items()
        if not (isinstance(settings, dict) and SHOWING.search(str(settings.get("_target_"))))
    }
    rest = {key: value for key, value in configuration.items() if key != "callbacks"}
    return rest | ({"callbacks": act} if act else {})


def _with_encoders(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What a run of before, which lacks `stage.encoders`, started from.

    Its `stage.initial` says so; a head, which has none, started from its `features.encoders`.
    """
    if any(key.startswith("stage.encoders") for key in old):
        return old
    if "stage.initial" not in old:
        return old | {key: value for key, value in new.items() if key.startswith("stage.encoders")}
    if (initial := old["stage.initial"]) is None:
        return old | {"stage.encoders": {}}
    return old | {f"stage.encoders.{initial}": old.get("model.name")}
