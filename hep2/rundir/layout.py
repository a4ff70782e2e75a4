"""What a run is called, where it lives, and the encoders that it starts from."""

import re
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from hep2.errors import HEp2Error
from hep2.rundir.directory import RunDir

STAGE_KEYS = ("kind", "label", "encoders", "unread")  # what each conf/stage/*.yaml tells of itself


@dataclass(frozen=True)
class Identity:
    """What tells a run from every other one.

    Attributes:
        method: the features or the network, and the head: "dcae", "dcae-mlp".
        data: the data set, as its cells call it.
        leaky: whether the protocol lets one specimen into training and test.
        synthetic: whether the cells were simulated.
    """

    name: str
    stage: str
    method: str
    data: str
    protocol: str
    leaky: bool
    synthetic: bool
    fold: int
    seed: int


def run_path(cfg: DictConfig) -> Path:
    """`<runs_dir>/<name>/<data>-<protocol>/<stage>-<method>/fold<k>/seed<s>`, no time stamp.

    A method that begins with its stage's name does not repeat it.

    Raises:
        HEp2Error: a name cannot be a folder's, or the stage's YAML lacks one of STAGE_KEYS.
    """
    lacking = [key for key in STAGE_KEYS if cfg.stage.get(key) is None]
    if lacking:
        raise HEp2Error(
            f"stage={cfg.stage.name} lacks {', '.join(lacking)}: add to its file what "
            "conf/stage/dcae.yaml explains"
        )
    method, stage = str(cfg.stage.label), str(cfg.stage.name)
    return _path_of(cfg, method if method.startswith(f"{stage}-") else f"{stage}-{method}")


def run_directories(root: Path) -> tuple[list[Path], list[Path]]:
    """Find the run directories below `root` (`runs/<name>`): finished ones, and unfinished ones."""
    every = sorted(path for path in root.glob("*/*/fold*/seed*") if path.is_dir())
    finished = [path for path in every if RunDir(path).finished]
    return finished, [path for path in every if path not in set(finished)]


def encoder_runs(cfg: DictConfig) -> list[RunDir]:
    """The runs that must be finished before this one can start."""
    if cfg.encoder is not None:
        return []
    encoders = cfg.stage.encoders.items()
    return [RunDir(_path_of(cfg, f"{stage}-{model}")) for stage, model in encoders]


def encoder_paths(cfg: DictConfig, selected: bool) -> list[Path]:
    """The checkpoints of the encoders that a run starts from.

    Args:
        cfg: the run's configuration.
        selected: whether validation chose among the epochs, or the last one counts.

    Raises:
        HEp2Error: an encoder's own run is not finished.
    """
    encoders = cfg.stage.encoders
    if encoders and cfg.encoder is not None:
        if len(encoders) != 1:
            raise HEp2Error(f"encoder={cfg.encoder} is one checkpoint, needed are {len(encoders)}")
        return [Path(cfg.encoder)]
    runs = encoder_runs(cfg)
    for run, (stage, model) in zip(runs, encoders.items(), strict=True):
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


def _path_of(cfg: DictConfig, leaf: str) -> Path:
    """The directory of another stage and method with the rest of a configuration."""
    folders = {
        "name": str(cfg.name),
        "data.name and protocol.name": f"{cfg.data.name}-{cfg.protocol.name}",
        "the names of stage, model and head": leaf,
    }
    for what, text in folders.items():  # none may lead elsewhere or be hidden
        if re.fullmatch(r"\w[\w.+=,-]{0,200}", text) is None:
            raise HEp2Error(
                f"{what}: {text!r} cannot name a folder; use letters, digits and _ - . + = , and "
                "begin with a letter or a digit"
            )
    return Path(cfg.runs_dir, *folders.values(), f"fold{cfg.fold}", f"seed{cfg.seed}")
