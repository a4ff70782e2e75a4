"""Finished runs read back from disk, every field and row checked."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from hep2.errors import HEp2Error
from hep2.evaluation import metrics
from hep2.evaluation.predictions import Predictions, read_predictions

_NAME = re.compile(r"[\w][\w.+=,-]*")  # part of a file's name: no separators, no spaces
_KEY = re.compile(r"[0-9a-f]{16}")


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
    stored = _load(file)
    field = _reader(file, stored)
    classes = tuple(field("classes", list))
    if not classes or not all(isinstance(c, str) for c in classes) or _repeats(classes):
        raise _damaged(file, "classes must be different names")
    run = Run(
        path=path,
        stage=_matching(file, "stage", field("stage", str), _NAME),
        method=_matching(file, "method", field("method", str), _NAME),
        data=_matching(file, "data", field("data", str), _NAME),
        synthetic=field("synthetic", bool),
        protocol=_matching(file, "protocol", field("protocol", str), _NAME),
        leaky=field("leaky", bool),
        fold=field("fold", int),
        folds=field("folds", int),
        seed=field("seed", int),
        classes=classes,
        data_key=_matching(file, "data_key", field("data_key", str), _KEY),
        split_hash=_matching(file, "split_hash", field("split_hash", str), _KEY),
        metrics=_numbers(file, "metrics", field("metrics", dict)),
        seconds=float(field("seconds", (int, float))),
        encoder_seconds=float(field("encoder_seconds", (int, float))),
        labels_in_features=field("labels_in_features", (bool, NoneType)),
        kind=_matching(file, "kind", field("kind", str), _NAME),
        command=field("command", (str, NoneType)) or "",
        predictions=_predictions(path, classes) if "recall" in stored else None,
    )
    if not 0 <= run.fold < run.folds:
        raise _damaged(file, f"fold {run.fold} is none of the {run.folds} folds")
    if (path.parent.name, path.name) != (f"fold{run.fold}", f"seed{run.seed}"):
        raise _damaged(file, f"it is of fold {run.fold}, seed {run.seed}, another directory's")
    if run.predictions is not None:
        _check_against(run, run.predictions, field("cells", dict).get("test"))
    return run


def _predictions(path: Path, classes: tuple[str, ...]) -> Predictions:
    file = path / "predictions.csv"
    if not file.is_file():
        raise HEp2Error(f"{file} is missing beside a result.json with recalls: {_remedy(path)}")
    return read_predictions(file, classes, _remedy(path))


def _check_against(run: Run, predictions: Predictions, cells: object) -> None:
    """The figures that the run wrote must be those of its predictions."""
    file = run.path / "result.json"
    if cells != len(predictions.ids):
        raise _damaged(
            file, f"it counts {cells} test cells, predictions.csv has {len(predictions.ids)}"
        )
    confusion = predictions.confusion()
    computed = {"aca": float(metrics.aca(confusion)), "mca": float(metrics.mca(confusion))}
    for key, value in run.metrics.items():
        name = key.rpartition("/test/")[2]
        if "/test/" in key and name in computed and abs(value - computed[name]) > 1e-4:
            raise _damaged(file, f"{key} is {value:.4f}, predictions.csv says {computed[name]:.4f}")


def _load(file: Path) -> dict[str, Any]:
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise _damaged(file, f"it cannot be read as JSON ({error})") from error
    if not isinstance(stored, dict):
        raise _damaged(file, "it is no JSON object")
    return stored


def _reader(file: Path, stored: dict[str, Any]) -> Callable[[str, type | tuple[type, ...]], Any]:
    """A function that gives a key's value, or says that it is missing or of a wrong type."""

    def field(key: str, kind: type | tuple[type, ...]) -> Any:
        if key not in stored:
            raise _damaged(file, f"key {key} is missing")
        value = stored[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and not _allows_bool(kind)):
            raise _damaged(file, f"key {key} is {value!r}")
        return value

    return field


def _allows_bool(kind: type | tuple[type, ...]) -> bool:
    """Python counts True as an int; here only what says bool takes one."""
    return kind is bool or (isinstance(kind, tuple) and bool in kind)


def _matching(file: Path, key: str, value: str, pattern: re.Pattern[str]) -> str:
    if pattern.fullmatch(value) is None:
        raise _damaged(file, f"key {key} is {value!r}")
    return value


def _numbers(file: Path, key: str, values: dict[str, Any]) -> dict[str, float]:
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise _damaged(file, f"key {key}.{name} is {value!r}")
    return {name: float("nan") if value is None else float(value) for name, value in values.items()}


def _repeats(names: tuple[str, ...]) -> bool:
    return len(set(names)) < len(names)


def _damaged(file: Path, what: str) -> HEp2Error:
    return HEp2Error(f"{file} is damaged or foreign: {what}; {_remedy(file.parent)}")


def _remedy(path: Path) -> str:
    return f"delete {path} and run its command again"
