"""What a run is called, where it lives, and the encoders that it starts from."""

import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from omegaconf import DictConfig

from hep2.data.protocols import ONE_POOL
from hep2.errors import HEp2Error
from hep2.rundir.directory import RunDir

STAGE_KEYS = ("kind", "label", "encoders", "unread")  # what each conf/stage/*.yaml tells of itself


@dataclass(frozen=True)
class Identity:
    """What tells a run from every other one."""

    name: str
    stage: str
    method: str  # the features or the network, and the head: "dcae", "dcae-mlp"
    data: str  # the data set, as its cells call it
    protocol: str
    leaky: bool  # whether the protocol lets one specimen into training and test
    synthetic: bool  # whether the cells were simulated
    fold: int
    seed: int
    labelled: int | None  # specimens of a pattern whose labels were read; None: all


def method_of(cfg: DictConfig) -> str:
    """What a method is called: as its stage says, with the number of labelled specimens."""
    few = cfg.protocol.labelled if cfg.stage.kind != "reconstruction" else None
    return f"{cfg.stage.label}-{few}specimens" if few is not None else str(cfg.stage.label)


def run_path(cfg: DictConfig) -> Path:
    """`<runs_dir>/<name>/<data>-<protocol>/<stage>-<method>/fold<k>/seed<s>`, no time stamp.

    A method that begins with its stage's name does not repeat it.

    Raises:
        HEp2Error: a name cannot be a folder's, or the stage's YAML lacks one of STAGE_KEYS.
    """
    if lacking := [key for key in STAGE_KEYS if cfg.stage.get(key) is None]:
        raise HEp2Error(
            f"stage={cfg.stage.name} lacks {', '.join(lacking)}: add to its file what "
            "conf/stage/dcae.yaml explains"
        )
    method, stage = method_of(cfg), str(cfg.stage.name)
    return _path_of(cfg, method if method.startswith(f"{stage}-") else f"{stage}-{method}")


def pool_of(cfg: DictConfig) -> Path | None:
    """What the runs of all folds have in common that learn from one pool of cells.

    None where each fold leaves other cells to learn from.
    """
    if cfg.protocol.name not in ONE_POOL or cfg.stage.get("learn_from") != "pool":
        return None
    path = run_path(cfg)
    return path.parents[1] / path.name


def run_directories(root: Path) -> tuple[list[Path], list[Path]]:
    """Find the run directories below `root` (`runs/<name>`): finished ones, and unfinished ones."""
    every = sorted(path for path in root.glob("*/*/fold*/seed*") if path.is_dir())
    finished = [path for path in every if RunDir(path).finished]
    return finished, [path for path in every if path not in set(finished)]


def needed_runs(cfg: DictConfig) -> list[RunDir]:
    """The runs that must be finished before this one can start: encoders, members."""
    return [*encoder_runs(cfg), *member_runs(cfg)]


def member_runs(cfg: DictConfig) -> list[RunDir]:
    """The runs whose probabilities an ensemble averages."""
    members = product(cfg.stage.get("members") or [], cfg.stage.get("seeds") or [cfg.seed])
    return [RunDir(_path_of(cfg, str(leaf), seed)) for leaf, seed in members]


def encoder_runs(cfg: DictConfig) -> list[RunDir]:
    """The runs whose encoders this one starts from."""
    encoders = cfg.stage.encoders if cfg.encoder is None else {}
    return [RunDir(_path_of(cfg, f"{stage}-{model}")) for stage, model in encoders.items()]


def encoder_paths(cfg: DictConfig, selected: bool) -> list[Path]:
    """The checkpoints of the encoders that a run starts from.

    `selected` says whether validation chose among the epochs, or the last one counts.

    Raises:
        HEp2Error: an encoder's own run is not finished.
    """
    encoders = cfg.stage.encoders
    if cfg.encoder is not None:
        if len(encoders) > 1:
            raise HEp2Error(f"encoder={cfg.encoder} is one checkpoint, needed are {len(encoders)}")
        return [Path(cfg.encoder)] * len(encoders)
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
    words = {"stage": stage, "model": model, "data": cfg.data.name}
    words |= {"data.root": cfg.data.get("root"), "protocol": cfg.protocol.name}
    words |= {key: cfg[key] for key in ("fold", "seed", "name")}
    given = [f"{key}={value}" for key, value in words.items() if value is not None]
    return " ".join(["python train.py", *given])


def _path_of(cfg: DictConfig, leaf: str, seed: int | None = None) -> Path:
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
    last = f"seed{cfg.seed if seed is None else seed}"
    return Path(cfg.runs_dir, *folders.values(), f"fold{cfg.fold}", last)
