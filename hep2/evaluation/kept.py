"""What runs kept for their report beside figures and predictions, read back and checked.

The keys are optional: a run of an earlier version has none, and its report lacks the figure.
"""

import base64
import binascii
import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hep2.evaluation.fields import damaged
from hep2.evaluation.metrics import FloatArray, StringArray
from hep2.evaluation.runs import Run

_MOST_PIXELS = 16_000_000  # of a stored strip: a damaged header must not fill the memory


@dataclass(frozen=True)
class Sheet:
    """A strip of stored cells.

    Attributes:
        cells: what is known of each, by name.
        images: shape (rows, cells, H, W), uint8.
    """

    cells: list[dict[str, Any]]
    images: NDArray[np.uint8]


@dataclass(frozen=True)
class LatentMap:
    """Where an autoencoder puts its test cells: columns pca_1, pca_2, tsne_1, tsne_2."""

    specimens: StringArray
    targets: StringArray
    places: FloatArray


def audit_of(run: Run) -> Mapping[str, Any] | None:
    """The leakage audit of a run's split; None where it kept none."""
    audit = run.kept.get("audit")
    if audit is None:
        return None
    counts = ("shared_specimens", "cells_of_shared_specimens", "identical_cells",
              "near_duplicate_cells")  # fmt: skip
    if not isinstance(audit, dict) or any(
        not isinstance(audit.get(name), int | None) for name in counts
    ):
        raise damaged(run.path / "result.json", "key audit is no audit")
    return audit


def chosen_of(run: Run) -> str:
    """What inner folds chose, e.g. "C=10, gamma=0.25"; empty where there was nothing to choose."""
    chosen = run.kept.get("chosen") or {}
    if not isinstance(chosen, dict) or any(
        not isinstance(value, str | int | float | None) for value in chosen.values()
    ):
        raise damaged(run.path / "result.json", "key chosen holds no settings")
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in chosen.items()
    )


def curves_of(run: Run) -> dict[str, FloatArray]:
    """Learning curves by name, each of shape (epochs, 2): epoch and value."""
    try:
        curves = {
            str(name): np.array(points, dtype=np.float64).reshape(-1, 2)
            for name, points in run.kept.get("curves", {}).items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise damaged(run.path / "result.json", f"key curves ({error})") from error
    return {name: points for name, points in curves.items() if len(points)}


def reconstructions_of(run: Run) -> Sheet | None:
    """Inputs and reconstructions of typical and worst cells; None where the run kept none."""
    return _sheet(run, "reconstructions", rows=2, fields=("id", "pattern", "kind", "mse"))


def mistakes_of(run: Run) -> Sheet | None:
    """The run's most confident mistakes; None where it kept none or made none."""
    fields = ("id", "specimen", "target", "output", "confidence")
    return _sheet(run, "mistakes", rows=1, fields=fields)


def latents_of(run: Run) -> LatentMap | None:
    """The map of latents in an autoencoder's predictions.csv; None where there is none."""
    file = run.path / "predictions.csv"
    names = ("pca_1", "pca_2", "tsne_1", "tsne_2")
    if run.kind != "reconstruction" or not file.is_file():
        return None
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            rows = [row for row in csv.DictReader(opened, strict=True) if row["tsne_1"]]
        places = np.array([[float(row[name]) for name in names] for row in rows])
        specimens = np.array([row["specimen"] for row in rows], dtype=np.str_)
        targets = np.array([row["target"] for row in rows], dtype=np.str_)
    except (KeyError, TypeError, ValueError, csv.Error, OSError) as error:
        raise damaged(file, f"its map of latents cannot be read ({error})") from error
    return LatentMap(specimens, targets, places) if len(rows) else None


def _sheet(run: Run, key: str, rows: int, fields: Sequence[str]) -> Sheet | None:
    stored = run.kept.get(key)
    if not stored or not stored.get("cells"):
        return None
    try:
        cells = [{name: cell[name] for name in fields} for cell in stored["cells"]]
        picture = _decoded(stored["png"])
        side, rest = divmod(picture.shape[0], rows)
        if rest or picture.shape[1] != side * len(cells):
            raise ValueError(f"the strip has {picture.shape[1]} x {picture.shape[0]} pixels")
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise damaged(run.path / "result.json", f"key {key} ({error})") from error
    images = picture.reshape(rows, side, len(cells), side).transpose(0, 2, 1, 3)
    return Sheet(cells, images)


def _decoded(text: str) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from error
    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        if math.prod(picture.size) > _MOST_PIXELS or picture.mode != "L":
            raise ValueError(f"a picture {picture.size} {picture.mode}")
        return np.asarray(picture, dtype=np.uint8)
