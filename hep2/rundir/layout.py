"""What a run is called: its method, its directory, and the encoders that it names."""

import re
from pathlib import Path

from omegaconf import DictConfig

from hep2.config import encoders_of
from hep2.errors import HEp2Error
from hep2.rundir.directory import RunDir


def encoder_runs(cfg: DictConfig) -> list[RunDir]:
    """The runs that must be finished before this one can start."""
    if cfg.encoder is not None:
        return []
    return [RunDir(path_of(cfg, f"{stage}-{model}")) for stage, model in encoders_of(cfg).items()]


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
    return path_of(cfg, method if begun else f"{cfg.stage.name}-{method}")


def path_of(cfg: DictConfig, leaf: str) -> Path:
    """The directory of the run of that stage and method, with the rest of a configuration."""
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
