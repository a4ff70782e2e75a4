"""What a run is called: its method, its directory, and the encoders that it names."""

import re
from pathlib import Path

from omegaconf import DictConfig

from hep2.errors import HEp2Error


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


def encoders_of(cfg: DictConfig) -> dict[str, str]:
    """The encoders that a run starts from: the stage that makes each one -> its model's name."""
    if cfg.stage.task == "head":
        return {str(stage): str(model) for stage, model in cfg.features.encoders.items()}
    initial = cfg.stage.get("initial")
    return {} if initial is None else {str(initial): str(cfg.model.name)}


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
