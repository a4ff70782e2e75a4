"""What a finished run leaves: predictions.csv and result.json."""

import csv
import io
import json
import logging
import math
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray
from omegaconf import DictConfig

from hep2 import __version__
from hep2.encoders import encoder_paths
from hep2.evaluation.fields import load, reader
from hep2.fold import Fold
from hep2.naming import method_of
from hep2.redact import redacted_words
from hep2.rundir import RunDir

log = logging.getLogger(__name__)

PACKAGES = ("torch", "lightning", "hydra-core", "numpy", "albumentations", "scikit-learn")
KINDS = {  # what a task's figures are; those of different kinds never share a table
    "autoencoder": "reconstruction",
    "head": "classification",
    "supervised": "classification",
    "clustering": "clustering",
}


def predictions_csv(fold: Fold, probabilities: NDArray[np.float64]) -> str:
    """One row a test cell: id, specimen, target, output, one probability a class.

    Probabilities are written with nine significant digits: enough to tell float32 values apart.
    """
    cells, test = fold.cells, fold.split.test
    classes = cells.classes
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "specimen", "target", "output", *(f"p_{name}" for name in classes)])
    for cell, row in zip(test, probabilities, strict=True):
        target, output = classes[cells.labels[cell]], classes[int(row.argmax())]
        writer.writerow(
            [cells.ids[cell], cells.specimens[cell], target, output, *(f"{p:.9g}" for p in row)]
        )
    return text.getvalue()


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


def metrics(fold: Fold, part: str, figures: Mapping[str, float]) -> dict[str, float | None]:
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


def learning_curves(metrics_csv: Path) -> dict[str, list[list[float]]]:
    """Every figure that was logged once an epoch, as [epoch, value], from a run's metrics.csv."""
    if not metrics_csv.is_file():
        return {}
    curves: dict[str, dict[int, float]] = {}
    with metrics_csv.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if not row.get("epoch"):
                continue
            epoch = int(float(row["epoch"]))
            for name, text in row.items():
                if name.startswith(("train/", "val/")) and text and math.isfinite(float(text)):
                    curves.setdefault(name, {})[epoch] = float(f"{float(text):.6g}")
    return {
        name: [[epoch, value] for epoch, value in sorted(points.items())]
        for name, points in curves.items()
    }


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
