"""The run directory: where a run lives, whether it is finished, and what may be written into it."""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from hep2.errors import HEp2Error
from hep2.redact import redacted

# Settings that change where or how fast a run is computed, not what it computes. A run may be
# resumed, or its encoder used, with others than it was started with.
INCIDENTAL = (
    "overwrite",
    "fail_fast",
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

# Choices that a stage's task does not read: sweeping over them does not touch its runs.
UNREAD = {
    "autoencoder": ("head", "features", "encoder"),
    "head": ("augment",),
    "supervised": ("features",),
    "clustering": ("head", "features"),
}


def write_atomic(path: Path, content: bytes | memoryview | str) -> None:
    """Write a file so that it is there whole or not at all, whenever the process dies.

    Raises:
        HEp2Error: the folder cannot be written or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise HEp2Error(
            f"cannot write {path}: {error.strerror}; free some space or choose another folder"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make a renaming last; some network file systems know no such thing."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def method_of(cfg: DictConfig) -> str:
    """What tells methods apart in tables: what the features are called, and the head.

    "dcae" in stage 1; "dcae-mlp", "handcrafted-svm" in stage 2; any other stage puts its own name
    in front: "cnn-lenet-linear", "cnn_finetuned-dcae-mlp".
    """
    if cfg.stage.task == "autoencoder":
        return str(cfg.model.name)
    if cfg.stage.task == "head":
        return f"{cfg.features.label}-{cfg.head.name}"
    head = f"-{cfg.head.name}" if cfg.stage.task == "supervised" else ""
    return f"{cfg.stage.name}-{cfg.model.name}{head}"


def run_path(cfg: DictConfig) -> Path:
    """`<runs_dir>/<name>/<data>-<protocol>/<stage>-<method>/fold<k>/seed<s>`, no time stamp.

    A method that begins with its stage's name does not repeat it.
    """
    method = method_of(cfg)
    begun = method.startswith(f"{cfg.stage.name}-")
    return _path(cfg, method if begun else f"{cfg.stage.name}-{method}")


def encoders_of(cfg: DictConfig) -> dict[str, str]:
    """The encoders that a run starts from: the stage that makes each one -> its model's name."""
    if cfg.stage.task == "head":
        return {str(stage): str(model) for stage, model in cfg.features.encoders.items()}
    initial = cfg.stage.get("initial")
    return {} if initial is None else {str(initial): str(cfg.model.name)}


def encoder_runs(cfg: DictConfig) -> list["RunDir"]:
    """The runs that must be finished before this one can start."""
    if cfg.encoder is not None:
        return []
    return [RunDir(_path(cfg, f"{stage}-{model}")) for stage, model in encoders_of(cfg).items()]


def encoder_paths(cfg: DictConfig, selected: bool) -> list[Path]:
    """The checkpoints of the encoders that a run starts from.

    Args:
        cfg: the run's configuration.
        selected: whether validation chose among the epochs, or the last one counts.

    Raises:
        HEp2Error: an encoder's own run is not finished.
    """
    stages = encoders_of(cfg)
    if not stages:
        return []
    if cfg.encoder is not None:
        if len(stages) != 1:
            raise HEp2Error(f"encoder={cfg.encoder} is one checkpoint, needed are {len(stages)}")
        return [Path(cfg.encoder)]
    runs = encoder_runs(cfg)
    for run, (stage, model) in zip(runs, stages.items(), strict=True):
        if not run.finished:
            state = "is not finished" if run.config.is_file() else "does not exist"
            raise HEp2Error(
                f"stage={cfg.stage.name} needs the encoder of fold {cfg.fold}, but {run.path} "
                f"{state}; train it first: {train_command(cfg, stage, model)}"
            )
    return [run.best if selected else run.last for run in runs]


def train_command(cfg: DictConfig, stage: str, model: str) -> str:
    """The command that runs another stage of the same experiment."""
    words = {
        "stage": stage,
        "model": model,
        "data": cfg.data.name,
        "data.root": cfg.data.get("root"),
        "protocol": cfg.protocol.name,
        "fold": cfg.fold,
        "seed": cfg.seed,
        "name": cfg.name,
    }
    given = [f"{key}={value}" for key, value in words.items() if value is not None]
    return " ".join(["python train.py", *given])


def _path(cfg: DictConfig, leaf: str) -> Path:
    return (
        Path(cfg.runs_dir)
        / _one_folder("name", str(cfg.name))
        / _one_folder("data.name and protocol.name", f"{cfg.data.name}-{cfg.protocol.name}")
        / _one_folder("the names of stage, model and head", leaf)
        / f"fold{cfg.fold}"
        / f"seed{cfg.seed}"
    )


def _one_folder(what: str, text: str) -> str:
    """A part of a run's path, which must neither lead elsewhere nor be hidden."""
    if re.fullmatch(r"\w[\w.+=,-]{0,200}", text) is None:
        raise HEp2Error(
            f"{what}: {text!r} cannot name a folder; use letters, digits and _ - . + = , and begin "
            "with a letter or a digit"
        )
    return text


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
        """The checkpoint of the last whole epoch, from which a run resumes."""
        return self.path / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The checkpoint of the epoch before the last, while a run trains."""
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
            self.config,
        ):
            file.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what a process that was killed had begun to write."""
        for name in ("*.ckpt", "*.json", "*.csv", "*.yaml"):
            for file in self.path.glob(f".{name}.?*"):
                file.unlink(missing_ok=True)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, and with it declare the run finished."""
        write_atomic(self.result, json.dumps(result, indent=2, allow_nan=False) + "\n")


def configuration_differences(stored: Any, asked: DictConfig) -> list[str]:
    """What differs between two configurations of a run, as `key: this there, that asked`.

    Settings that do not change the run's numbers are left out: INCIDENTAL and UNREAD.
    """
    old, new = _flat(stored), _flat(redacted(OmegaConf.to_container(asked, resolve=True)))
    unread = UNREAD.get(asked.stage.task, ())
    if asked.stage.task == "head" and asked.model.name not in encoders_of(asked).values():
        unread = (*unread, "model")  # features that no network of that model makes
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
