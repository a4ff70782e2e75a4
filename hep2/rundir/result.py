"""result.json: what a run was and what it measured; written, and read back with every key checked.

Finished runs are read here with their predictions, so that the two belong together.
"""

import json
import logging
import math
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn

import numpy as np
from hydra.core.hydra_config import HydraConfig

from hep2 import __version__, metrics
from hep2.config import redacted_words
from hep2.data.fold import Fold
from hep2.errors import HEp2Error
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import Identity
from hep2.rundir.predictions import Predictions, read_predictions

log = logging.getLogger(__name__)

PACKAGES = ("torch", "lightning", "hydra-core", "numpy", "albumentations", "scikit-learn")
LARGEST = 1e300  # of a metric or a time: a whole number in JSON can be too large for a float
MOST_FOLDS = 100_000  # one a specimen; a larger number is damage, and would be counted up to

_NAME = re.compile(r"[\w][\w.+=,-]*")  # part of a file's name: no separators, no spaces
_KEY = re.compile(r"[0-9a-f]{16}")
FIELDS: dict[str, re.Pattern[str] | tuple[type, ...]] = {  # what each key must look like
    **dict.fromkeys(("stage", "method", "kind", "data", "protocol"), _NAME),
    **dict.fromkeys(("data_key", "split_hash"), _KEY),
    **dict.fromkeys(("synthetic", "leaky"), (bool,)),
    **dict.fromkeys(("fold", "folds", "seed"), (int,)),
    **dict.fromkeys(("seconds", "encoder_seconds"), (int, float)),
    **dict.fromkeys(("cells", "metrics"), (dict,)),
    "classes": (list,),
    "labels_in_features": (bool, NoneType),
    "command": (str, NoneType),
}


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
        metrics: those the run wrote itself, e.g. "published/test/mca", in [0, 1].
        seconds: wall time of the run.
        encoder_seconds: wall time of the runs whose encoders it started from.
        labels_in_features: whether its features were learned with labels; None: not learned.
        kind: "classification", "clustering" or "reconstruction".
        command: what started it; empty where it was no command line.
        predictions: its test cells; None for a stage that classifies nothing.
        kept: everything that result.json holds, unchecked; `hep2.rundir.artifacts` reads it.
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
    predictions: Predictions | None = None
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def encoder_collapsed(self) -> bool:
        """Whether an encoder it started from had learned nothing: its metrics say nothing."""
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


def read_result(file: Path) -> dict[str, Any]:
    """What a result.json holds, unchecked.

    Raises:
        HEp2Error: it cannot be read as a JSON object.
    """
    try:
        stored = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (ValueError, OSError, RecursionError) as error:
        raise damaged(file, f"it cannot be read as JSON ({error})") from error
    if not isinstance(stored, dict):
        raise damaged(file, "it is not a JSON object")
    return stored


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")  # Python's reader takes NaN and Infinity, JSON not


def read_run(path: Path) -> Run:
    """Read one finished run and check all of it.

    Raises:
        HEp2Error: result.json or predictions.csv is damaged, does not belong to its directory, or
            the two do not belong together. The message names the file, the key or row, the remedy.
    """
    file = path / "result.json"
    stored = read_result(file)
    fields = {key: _field(file, stored, key) for key in FIELDS}
    classes, counted = tuple(fields["classes"]), fields.pop("cells").get("test")
    names = {name for name in classes if isinstance(name, str)}
    if not classes or len(names) < len(classes):
        raise damaged(file, "classes must be different names")
    fields |= {
        "classes": classes,
        "metrics": {
            name: _number(file, f"metrics.{name}", value)
            for name, value in fields["metrics"].items()
        },
        "command": fields["command"] or "",
    }
    if "recall" in stored:
        cells, remedy = RunDir(path).predictions, _remedy(path)
        if not cells.is_file():
            raise HEp2Error(f"{cells} is missing beside a result.json with recalls: {remedy}")
        fields["predictions"] = read_predictions(cells, classes, remedy)
    run = Run(path=path, kept=stored, **fields)
    if not 0 <= run.fold < run.folds <= MOST_FOLDS:
        raise damaged(file, f"fold {run.fold} is none of the {run.folds} folds")
    if (path.parent.name, path.name) != (f"fold{run.fold}", f"seed{run.seed}"):
        raise damaged(file, f"it is of fold {run.fold}, seed {run.seed}, another directory's")
    if run.predictions is not None:
        _check_against(run, run.predictions, counted)
    return run


def _field(file: Path, stored: Mapping[str, Any], key: str) -> Any:
    """The value of a key; types are exact, as Python would take True for an int."""
    if key not in stored:
        raise damaged(file, f"key {key} is missing")
    value, wanted = stored[key], FIELDS[key]
    if isinstance(wanted, re.Pattern):
        good = isinstance(value, str) and wanted.fullmatch(value) is not None
    else:
        good = type(value) in wanted
    if not good:
        raise damaged(file, f"key {key} is {value!r}")
    return _number(file, key, value) if wanted == (int, float) else value


def _number(file: Path, key: str, value: Any) -> float:
    """A metric or a time; null stands for one that is not defined, and becomes NaN."""
    if value is None:
        return math.nan
    if type(value) not in (int, float) or not abs(value) <= LARGEST:
        raise damaged(file, f"key {key} is {str(value)[:40]!r}")
    return float(value)


def _check_against(run: Run, predictions: Predictions, counted: object) -> None:
    """What the run counted and measured itself must be what its predictions say."""
    file = run.path / "result.json"
    if counted != (found := len(predictions.ids)):
        raise damaged(file, f"it counts {counted} test cells, predictions.csv has {found}")
    confusion = predictions.confusion()
    computed = {m.name: float(m.function(confusion)) for m in metrics.HEADLINE}
    for key, value in run.metrics.items():
        name = key.rpartition("/test/")[2]
        if "/test/" in key and name in computed:
            said = computed[name]  # rounded; a metric that is not defined (NaN) equals another
            if not np.isclose(value, said, rtol=0, atol=1e-4, equal_nan=True):
                raise damaged(file, f"{key} is {value:.4f}, predictions.csv says {said:.4f}")


def damaged(file: Path, what: str) -> HEp2Error:
    """The error to raise for a file of a run that cannot be what the run wrote."""
    return HEp2Error(f"{file} is damaged or foreign: {what}; {_remedy(file.parent)}")


def _remedy(path: Path) -> str:
    return f"delete {path} and run its command again"


def describe(identity: Identity, kind: str, fold: Fold) -> dict[str, Any]:
    """The part of result.json that any stage has: what was run on which cells."""
    cells, split = fold.cells, fold.split
    parts = {"train": split.train, "val": split.val, "test": split.test}
    return {
        **asdict(identity),
        "kind": kind,
        "folds": fold.count,
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


def name_metrics(fold: Fold, part: str, values: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics under names that carry the protocol; NaN, which JSON lacks, becomes null."""
    return {
        f"{fold.protocol}/{part}/{name}": None if math.isnan(value) else float(value)
        for name, value in values.items()
    }


def collapsed_encoders(checkpoints: Iterable[Path]) -> list[str]:
    """The encoders among these checkpoints that learned nothing, by their own result.json.

    Each is `<stage>-<method>/fold<k>/seed<s>`, the same wherever the runs are kept. A head on their
    latents is trained all the same, as a sweep asks for it; its result says so.
    """
    collapsed = []
    for run in [checkpoint.parent for checkpoint in checkpoints]:
        try:
            result = read_result(RunDir(run).result)
        except HEp2Error:
            continue  # an encoder from elsewhere, of which only the checkpoint is known
        if result.get("collapsed"):
            log.warning("the encoder of %s has collapsed: this run's metrics mean nothing", run)
            collapsed.append("/".join(run.parts[-3:]))
    return collapsed


def seconds_of(runs: Iterable[RunDir]) -> float:
    """Wall time of other, finished runs together.

    Raises:
        HEp2Error: the result of one is damaged.
    """
    return float(sum(_field(run.result, read_result(run.result), "seconds") for run in runs))


def _git_commit() -> str | None:
    """The commit of the code that ran, with `+changes` where files differ from it."""
    words = ("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes")
    git = ["git", "-C", str(Path(__file__).parent), *words]
    try:
        told = subprocess.run(git, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None  # an installed package, or no git: nothing to say
    return told.stdout.strip()


def _command() -> str | None:
    """The command line that repeats this run, where Hydra started it."""
    if not HydraConfig.initialized():
        return None
    return " ".join(["python train.py", *redacted_words(list(HydraConfig.get().overrides.task))])
