"""result.json: what a run was and what it measured; written, and read back with every key checked.

Finished runs are read here with their predictions, so that the two belong together.
"""

import json
import logging
import math
import re
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn

import numpy as np

from hep2 import __version__, metrics
from hep2.calls.calibration import Calibration, HeldOut
from hep2.calls.record import from_record
from hep2.data.fold import Fold
from hep2.errors import HEp2Error
from hep2.rundir.directory import RunDir, damaged
from hep2.rundir.layout import Identity, this_command
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
    """One finished run."""

    path: Path
    stage: str  # "dcae", "head"
    method: str  # "dcae" (stage dcae), "dcae-mlp" (stage head)
    data: str
    synthetic: bool  # whether its cells were simulated
    protocol: str
    leaky: bool  # whether cells of one specimen may stand on both sides of the split
    fold: int  # from 0
    folds: int  # of the protocol
    seed: int
    classes: tuple[str, ...]  # pattern names, in the order of every table
    data_key: str  # content key of the data, 16 hex digits
    split_hash: str  # 16 hex digits
    metrics: dict[str, float]  # what the run wrote itself: "published/test/mca", in [0, 1]
    seconds: float  # wall time
    encoder_seconds: float  # wall time of the runs whose encoders it started from
    labels_in_features: bool | None  # learned with labels? None: its features were not learned
    kind: str  # "classification", "clustering" or "reconstruction"
    command: str  # empty where no command line started it
    predictions: Predictions | None = None  # None for a stage that classifies nothing
    # All of result.json, unchecked: `hep2.rundir.artifacts` reads it.
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

    @property
    def calibration(self) -> Calibration | None:
        """How far its probabilities can be believed; None where nothing was calibrated.

        Raises:
            HEp2Error: what was kept is not a calibration.
        """
        try:
            return from_record(self.kept.get("calibration"), self.classes)
        except HEp2Error as error:
            raise damaged(RunDir(self.path).result, str(error)) from error

    @property
    def held_out(self) -> HeldOut | None:
        """The training cells that it held out to calibrate with; None where it kept none."""
        if not (file := RunDir(self.path).held_out).is_file():
            return None
        cells = read_predictions(file, self.classes)
        return HeldOut(cells.ids, cells.specimens, cells.targets, cells.probabilities, "")


def protocol_label(run: Run) -> str:
    """Name of the protocol as every table and picture shows it: leaky ones end in `-leaky`."""
    return f"{run.protocol.removesuffix('-leaky')}-leaky" if run.leaky else run.protocol


def data_label(run: Run) -> str:
    """Name of the data set as every table and picture shows it: simulated ones say synthetic."""
    marked = not run.synthetic or "synthetic" in run.data
    return run.data if marked else f"{run.data}-synthetic"


def read_result(file: Path) -> dict[str, Any]:
    """What a result.json holds, unchecked.

    Raises:
        HEp2Error: it cannot be read as a JSON object.
    """

    def refuse(text: str) -> NoReturn:  # Python's reader takes NaN and Infinity, JSON not
        raise ValueError(f"{text} is not a number")

    try:
        stored = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
    except (ValueError, OSError, RecursionError) as error:
        raise damaged(file, f"it cannot be read as JSON ({error})") from error
    if not isinstance(stored, dict):
        raise damaged(file, "it is not a JSON object")
    return stored


def read_run(path: Path) -> Run:
    """Read one finished run and check all of it.

    Raises:
        HEp2Error: result.json or predictions.csv is damaged, does not belong to its directory, or
            the two do not belong together. The message names the file, the key or row, the remedy.
    """
    file = path / "result.json"
    stored = read_result(file)
    fields = {key: _field(file, stored, key) for key in FIELDS}
    counted = fields.pop("cells").get("test")
    fields["command"] = fields["command"] or ""
    fields["classes"] = classes = tuple(fields["classes"])
    if not classes or len({name for name in classes if isinstance(name, str)}) < len(classes):
        raise damaged(file, "classes must be different names")
    fields["metrics"] = {
        name: _number(file, f"metrics.{name}", value) for name, value in fields["metrics"].items()
    }
    if "recall" in stored:
        if not (cells := RunDir(path).predictions).is_file():
            raise HEp2Error(
                f"{cells} is missing beside a result.json with recalls: delete {path} and run its "
                "command again"
            )
        fields["predictions"] = read_predictions(cells, classes)
    run = Run(path=path, kept=stored, **fields)
    if not 0 <= run.fold < run.folds <= MOST_FOLDS:
        raise damaged(file, f"fold {run.fold} is not one of the {run.folds} folds")
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
    for metric in metrics.HEADLINE:
        said = float(metric.function(confusion))
        for key, value in run.metrics.items():  # rounded; undefined (NaN) equals undefined
            close = np.isclose(value, said, rtol=0, atol=1e-4, equal_nan=True)
            if key.endswith(f"/test/{metric.name}") and not close:
                raise damaged(file, f"{key} is {value:.4f}, predictions.csv says {said:.4f}")


def describe(identity: Identity, kind: str, fold: Fold) -> dict[str, Any]:
    """The part of result.json that any stage has: what was run on which cells."""
    cells, split = fold.cells, fold.split
    parts = {"train": split.train, "val": split.val, "test": split.test}
    named = {part: set(cells.specimens[members]) - {""} for part, members in parts.items()}
    return {
        **asdict(identity),
        "kind": kind,
        "folds": fold.count,
        "classes": list(cells.classes),
        "cells": {part: len(members) for part, members in parts.items()},
        "specimens": {part: len(names) for part, names in named.items()},
        "data_key": cells.key,
        "full_scale": cells.file_scale or 255,
        "notes": list(fold.notes),
        "split_hash": split.digest(cells.ids),
        "validation": split.note,
        "versions": {"hep2": __version__} | {name: version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
        "command": this_command(),
    }


def name_metrics(fold: Fold, values: Mapping[str, float]) -> dict[str, float | None]:
    """Metrics of the test cells, named with the protocol; NaN, which JSON lacks, becomes null."""
    return {
        f"{fold.protocol}/test/{name}": None if math.isnan(value) else float(value)
        for name, value in values.items()
    }


def collapsed_encoders(folders: Iterable[Path]) -> list[str]:
    """The encoders among the runs of these folders that learned nothing, by their result.json.

    Each is `<stage>-<method>/fold<k>/seed<s>`, the same wherever the runs are kept. A head on their
    latents is trained all the same, as a sweep asks for it; its result says so.
    """
    collapsed = []
    for run in folders:
        with suppress(HEp2Error):  # one from elsewhere may have no result
            if read_result(RunDir(run).result).get("collapsed"):
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
    with suppress(OSError, subprocess.SubprocessError):  # an installed package, or no git
        told = subprocess.run(git, capture_output=True, text=True, check=True, timeout=10)
        return told.stdout.strip()
    return None
