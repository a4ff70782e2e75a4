"""What a run is called, where it lives, and the encoders that it starts from."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from hep2.config import called_by_name, flat, override, plain, program_flags, redacted_words
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
    labelled: int | None = None  # specimens of a pattern whose labels were read; None: all


def method_of(cfg: DictConfig) -> str:
    """What a method is called: as its stage says, with the number of labelled specimens."""
    return f"{cfg.stage.label}{_few_labels(cfg)}"


def _few_labels(cfg: DictConfig) -> str:
    few = cfg.protocol.labelled if cfg.stage.kind != "reconstruction" else None
    return "" if few is None else f"-{few}specimens"


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
    """The runs whose probabilities an ensemble averages: with as few labels as it has itself."""
    members = product(cfg.stage.get("members") or [], cfg.stage.get("seeds") or [cfg.seed])
    few = _few_labels(cfg)
    names = [(str(leaf).removesuffix(few) + few, seed) for leaf, seed in members]
    return [RunDir(_path_of(cfg, leaf, seed)) for leaf, seed in names]


def runs_behind(cfg: DictConfig) -> list[RunDir]:
    """All finished runs that this one stands on, each once: encoders, members, their encoders."""
    members = member_runs(cfg)
    beside = {"runs_dir": cfg.runs_dir, "name": cfg.name}  # they lie where this run does
    theirs = [DictConfig(run.stored() | beside) for run in members if run.finished]
    below = [run for one in theirs for run in encoder_runs(one)]
    found = {run.path: run for run in [*encoder_runs(cfg), *members, *below] if run.finished}
    return list(found.values())


def encoder_runs(cfg: DictConfig) -> list[RunDir]:
    """The runs whose encoders this one starts from."""
    encoders = cfg.stage.encoders if cfg.encoder is None else {}
    if not isinstance(encoders, Mapping):
        raise HEp2Error(f"features.encoders={encoders} must be stages and models, {{dcae: dcae}}")
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


def this_command() -> str | None:
    """The command that repeats this run, for a shell; None where Hydra did not start it."""
    return _command(HydraConfig.get().overrides.task) if HydraConfig.initialized() else None


def train_command(cfg: DictConfig, stage: str, model: str) -> str:
    """The command, for a shell, that runs another stage of the same experiment."""
    begun = RunDir(_path_of(cfg, f"{stage}-{model}")).config
    kept = list(_kept(cfg, model, begun) if HydraConfig.initialized() else _told(cfg, model))
    return _command([f"stage={stage}", *kept])


def _command(words: Sequence[str]) -> str:
    flags = program_flags(HydraConfig.get()) if HydraConfig.initialized() else []
    program = ["hep2", "train"] if called_by_name() else ["python", "train.py"]
    return shlex.join([*program, *flags, *redacted_words(list(words))])


def _kept(cfg: DictConfig, model: str, begun: Path) -> Iterator[str]:
    """The words of this run's command line that another stage reads as well.

    Settings of this stage are not the other's, unless that has begun with some, as in a sweep.
    """
    stored: Any = DictConfig({})
    with suppress(Exception):  # there is none, or it is not ours
        stored = OmegaConf.create(begun.read_text(encoding="utf-8"))
    own = {"encoder", "overwrite"}
    if cfg.model.name != model:
        own.add("model")
        yield f"model={model}"
    for word in HydraConfig.get().overrides.task:
        key, _, text = word.partition("=")
        key = key.lstrip("+~")
        if key.partition(".")[0] in own:
            continue
        if key.partition(".")[0] == "stage":
            value = OmegaConf.select(stored, key)
            if "." in key and value is not None:
                yield override(key, plain(value))
            continue
        value = OmegaConf.select(cfg, key) if "${" in text else None
        yield word if value is None else override(key, plain(value))  # it may name the stage


def _told(cfg: DictConfig, model: str) -> Iterator[str]:
    """The same, read off the configuration where no command line has made it."""
    groups = {"model": model, "data": cfg.data.name, "protocol": cfg.protocol.name}
    yield from (override(key, name) for key, name in groups.items())
    for key in ("fold", "seed", "name", "runs_dir", "cache_dir"):
        yield override(key, cfg[key])
    for group in ("data", "protocol", *(["model"] if cfg.model.name == model else [])):
        for key, value in flat(plain(cfg[group]), group).items():
            if value not in (None, {}) and not key.endswith((".name", "._target_")):
                yield override(key, value)


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
