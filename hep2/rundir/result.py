"""Finished runs read back from disk, every field and row checked."""

import json
import logging
import math
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hep2 import __version__, metrics
from hep2.config import redacted_words
from hep2.data.fold import Fold
from hep2.errors import HEp2Error
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import encoder_paths, method_of
from hep2.rundir.predictions import Predictions, read_predictions

LARGEST = 1e300  # of a figure or a time: a whole number in JSON can be too large for a float


def load(file: Path) -> dict[str, Any]:
    """What a result.json holds."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (ValueError, OSError, RecursionError) as error:
        raise damaged(file, f"it cannot be read as JSON ({error})") from error
    if not isinstance(stored, dict):
        raise damaged(file, "it is no JSON object")
    return stored


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")  # Python's reader takes NaN and Infinity, JSON not


def reader(file: Path, stored: dict[str, Any]) -> Callable[[str, type | tuple[type, ...]], Any]:
    """A function that gives a key's value, or says that it is missing or of a wrong type."""

    def field(key: str, kind: type | tuple[type, ...]) -> Any:
        if key not in stored:
            raise damaged(file, f"key {key} is missing")
        value = stored[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and not _allows_bool(kind)):
            raise damaged(file, f"key {key} is {value!r}")
        return value

    return field


def _allows_bool(kind: type | tuple[type, ...]) -> bool:
    """Python counts True as an int; here only what says bool takes one."""
    return kind is bool or (isinstance(kind, tuple) and bool in kind)


def matching(file: Path, key: str, value: str, pattern: re.Pattern[str]) -> str:
    """A text that must look like a pattern."""
    if pattern.fullmatch(value) is None:
        raise damaged(file, f"key {key} is {value!r}")
    return value


def numbers(file: Path, key: str, values: dict[str, Any]) -> dict[str, float]:
    """Figures by name; null stands for one that is not defined, and becomes NaN."""
    for name, value in values.items():
        number = not isinstance(value, bool) and isinstance(value, (int, float))
        if value is not None and not (number and abs(value) <= LARGEST):
            raise damaged(file, f"key {key}.{name} is {str(value)[:40]!r}")
    return {name: float("nan") if value is None else float(value) for name, value in values.items()}


def damaged(file: Path, what: str) -> HEp2Error:
    """The error to raise for a file of a run that cannot be what the run wrote."""
    return HEp2Error(f"{file} is damaged or foreign: {what}; {remedy(file.parent)}")


def remedy(path: Path) -> str:
    """What to do about a damaged run."""
    return f"delete {path} and run its command again"


_NAME = re.compile(r"[\w][\w.+=,-]*")  # part of a file's name: no separators, no spaces
_KEY = re.compile(r"[0-9a-f]{16}")
_MOST_FOLDS = 100_000  # one a specimen; a larger number is damage, and would be counted up to


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        path: its directory.
        stage: e.g. "dcae", "head".
        method: e.g. "dcae" (stage dcae), "dcae-mlp" (stage head).
        data: name of the data set.
        synthetic: whether its cells were simulated.
        protocol: scheme of the splits.
        leaky: whether cells of one specimen may stand on both sides of the split.
        fold: from 0.
        folds: number of folds of the protocol.
        seed: of the training.
        classes: pattern names, in the order of every table.
        data_key: content key of the data, 16 hex digits.
        split_hash: of the split, 16 hex digits.
        metrics: figures the run wrote itself, e.g. "published/test/mca", in [0, 1].
        seconds: wall time of the run.
        encoder_seconds: wall time of the runs whose encoders it started from.
        labels_in_features: whether its features were learned with labels; None: not learned.
        kind: "classification", "clustering" or "reconstruction".
        command: what started it; empty where it was no command line.
        predictions: its test cells; None for a stage that classifies nothing.
        kept: everything that result.json holds, unchecked; `hep2.evaluation.kept` reads it.
    """

    path: Path
    stage: str
    method: str
    data: str
    synthetic: bool
    protocol: str
    leaky: bool
    fold: int
    folds: int
    seed: int
    classes: tuple[str, ...]
    data_key: str
    split_hash: str
    metrics: dict[str, float]
    seconds: float
    encoder_seconds: float
    labels_in_features: bool | None
    kind: str
    command: str
    predictions: Predictions | None
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def encoder_collapsed(self) -> bool:
        """Whether an encoder it started from had learned nothing: its figures say nothing."""
        return bool(self.kept.get("collapsed_encoders"))

    @property
    def cells(self) -> Predictions:
        """The test cells of a run that classifies."""
        if self.predictions is None:
            raise ValueError(f"{self.path} classifies nothing")
        return self.predictions


def protocol_label(run: Run) -> str:
    """Name of the protocol as every table and picture shows it: leaky ones end in `-leaky`."""
    marked = not run.leaky or run.protocol.endswith("-leaky")
    return run.protocol if marked else f"{run.protocol}-leaky"


def data_label(run: Run) -> str:
    """Name of the data set as every table and picture shows it: simulated ones say synthetic."""
    marked = not run.synthetic or "synthetic" in run.data
    return run.data if marked else f"{run.data}-synthetic"


def run_directories(root: Path) -> tuple[list[Path], list[Path]]:
    """Find the run directories below `root` (`runs/<name>`): finished ones, and unfinished ones."""
    every = sorted(path for path in root.glob("*/*/fold*/seed*") if path.is_dir())
    finished = [path for path in every if (path / "result.json").is_file()]
    return finished, [path for path in every if path not in set(finished)]


def read_run(path: Path) -> Run:
    """Read one finished run and check all of it.

    Raises:
        HEp2Error: result.json or predictions.csv is damaged, does not belong to its directory, or
            the two do not belong together. The message names the file, the key or row, the remedy.
    """
    file = path / "result.json"
    stored = load(file)
    value = reader(file, stored)
    classes = tuple(value("classes", list))
    if not classes or not all(isinstance(c, str) for c in classes) or _repeats(classes):
        raise damaged(file, "classes must be different names")
    run = Run(
        path=path,
        stage=matching(file, "stage", value("stage", str), _NAME),
        method=matching(file, "method", value("method", str), _NAME),
        data=matching(file, "data", value("data", str), _NAME),
        synthetic=value("synthetic", bool),
        protocol=matching(file, "protocol", value("protocol", str), _NAME),
        leaky=value("leaky", bool),
        fold=value("fold", int),
        folds=value("folds", int),
        seed=value("seed", int),
        classes=classes,
        data_key=matching(file, "data_key", value("data_key", str), _KEY),
        split_hash=matching(file, "split_hash", value("split_hash", str), _KEY),
        metrics=numbers(file, "metrics", value("metrics", dict)),
        seconds=numbers(file, "seconds", {"": value("seconds", (int, float))})[""],
        encoder_seconds=numbers(file, "seconds", {"": value("encoder_seconds", (int, float))})[""],
        labels_in_features=value("labels_in_features", (bool, NoneType)),
        kind=matching(file, "kind", value("kind", str), _NAME),
        command=value("command", (str, NoneType)) or "",
        predictions=_predictions(path, classes) if "recall" in stored else None,
        kept=stored,
    )
    if not 0 <= run.fold < run.folds <= _MOST_FOLDS:
        raise damaged(file, f"fold {run.fold} is none of the {run.folds} folds")
    if (path.parent.name, path.name) != (f"fold{run.fold}", f"seed{run.seed}"):
        raise damaged(file, f"it is of fold {run.fold}, seed {run.seed}, another directory's")
    if run.predictions is not None:
        _check_against(run, run.predictions, value("cells", dict).get("test"))
    return run


def _predictions(path: Path, classes: tuple[str, ...]) -> Predictions:
    file = path / "predictions.csv"
    if not file.is_file():
        raise HEp2Error(f"{file} is missing beside a result.json with recalls: {remedy(path)}")
    return read_predictions(file, classes, remedy(path))


def _check_against(run: Run, predictions: Predictions, cells: object) -> None:
    """The figures that the run wrote must be those of its predictions."""
    file = run.path / "result.json"
    if cells != len(predictions.ids):
        raise damaged(
            file, f"it counts {cells} test cells, predictions.csv has {len(predictions.ids)}"
        )
    confusion = predictions.confusion()
    computed = {m.name: float(m.function(confusion)) for m in metrics.HEADLINE}
    for key, value in run.metrics.items():
        name = key.rpartition("/test/")[2]
        if "/test/" in key and name in computed and not _same(value, computed[name]):
            raise damaged(file, f"{key} is {value:.4f}, predictions.csv says {computed[name]:.4f}")


def _same(stored: float, computed: float) -> bool:
    """Equal but for rounding; an undefined figure (NaN) is equal to another one only."""
    return abs(stored - computed) <= 1e-4 or (math.isnan(stored) and math.isnan(computed))


def _repeats(names: tuple[str, ...]) -> bool:
    return len(set(names)) < len(names)


log = logging.getLogger(__name__)

PACKAGES = ("torch", "lightning", "hydra-core", "numpy", "albumentations", "scikit-learn")
KINDS = {  # what a task's figures are; those of different kinds never share a table
    "autoencoder": "reconstruction",
    "head": "classification",
    "supervised": "classification",
    "clustering": "clustering",
}


def describe(cfg: DictConfig, fold: Fold) -> dict[str, Any]:
    """The part of result.json that any stage has: what was run on which cells."""
    cells, split = fold.cells, fold.split
    parts = {"train": split.train, "val": split.val, "test": split.test}
    return {
        "stage": cfg.stage.name,
        "method": method_of(cfg),
        "kind": KINDS[cfg.stage.task],
        "name": cfg.name,
        "data": cells.name,
        "synthetic": cells.synthetic,
        "protocol": cfg.protocol.name,
        "leaky": split.leaky,
        "fold": cfg.fold,
        "folds": fold.count,
        "seed": cfg.seed,
        "classes": list(cells.classes),
        "cells": {part: len(members) for part, members in parts.items()},
        "specimens": {
            part: len(set(cells.specimens[members]) - {""}) for part, members in parts.items()
        },
        "data_key": cells.key,
        "split_hash": fold.provenance["split"],
        "validation": split.note,
        "versions": {"hep2": __version__} | {name: version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
        "command": _command(),
    }


def collapsed_encoders(cfg: DictConfig, fold: Fold) -> dict[str, list[str]]:
    """The encoders that a run starts from and that learned nothing, by their own result.json.

    Each is `<stage>-<method>/fold<k>/seed<s>`, the same wherever the runs are kept.

    A head on their latents is trained all the same, as a sweep asks for it; its result says so.
    """
    collapsed = []
    for run in [path.parent for path in encoder_paths(cfg, selected=not fold.split.note)]:
        try:
            result = json.loads((run / "result.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            continue  # an encoder from elsewhere, of which only the checkpoint is known
        if isinstance(result, dict) and result.get("collapsed"):
            log.warning("the encoder of %s has collapsed: figures of this run mean nothing", run)
            collapsed.append("/".join(run.parts[-3:]))
    return {"collapsed_encoders": collapsed}


def name_metrics(fold: Fold, part: str, figures: Mapping[str, float]) -> dict[str, float | None]:
    """Figures under names that carry the protocol; NaN, which JSON lacks, becomes null."""
    return {
        f"{fold.protocol}/{part}/{name}": None if math.isnan(value) else float(value)
        for name, value in figures.items()
    }


def seconds_of(runs: Iterable[RunDir]) -> float:
    """Wall time of other, finished runs together.

    Raises:
        HEp2Error: the result of one is damaged.
    """
    files = [run.result for run in runs]
    return float(sum(reader(file, load(file))("seconds", (int, float)) for file in files))


def _git_commit() -> str | None:
    """The commit of the code that ran, with `+changes` where files differ from it."""
    folder = Path(__file__).parent
    git = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "diff", "--quiet", "HEAD"], capture_output=True, timeout=10
        ).returncode
    except (OSError, subprocess.SubprocessError):
        return None  # an installed package, or no git: nothing to say
    return commit + ("+changes" if changed else "")


def _command() -> str | None:
    """The command line that repeats this run, where Hydra started it."""
    if not HydraConfig.initialized():
        return None
    return " ".join(["python train.py", *redacted_words(list(HydraConfig.get().overrides.task))])
