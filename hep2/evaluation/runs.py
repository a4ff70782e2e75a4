"""Finished runs read back from disk, every field and row checked."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from hep2.errors import HEp2Error
from hep2.evaluation import metrics
from hep2.evaluation.fields import damaged, load, matching, numbers, reader, remedy
from hep2.evaluation.predictions import Predictions, read_predictions

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
    computed = {"aca": float(metrics.aca(confusion)), "mca": float(metrics.mca(confusion))}
    for key, value in run.metrics.items():
        name = key.rpartition("/test/")[2]
        if "/test/" in key and name in computed and not _same(value, computed[name]):
            raise damaged(file, f"{key} is {value:.4f}, predictions.csv says {computed[name]:.4f}")


def _same(stored: float, computed: float) -> bool:
    """Equal but for rounding; an undefined figure (NaN) is equal to another one only."""
    return abs(stored - computed) <= 1e-4 or (math.isnan(stored) and math.isnan(computed))


def _repeats(names: tuple[str, ...]) -> bool:
    return len(set(names)) < len(names)
