"""What a run keeps for its report beside metrics and predictions: strips of cells, maps of latents.

Each is written and read here. Readers check what they read; a run of an earlier version lacks some
of them, and its report the picture.
"""

import base64
import binascii
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hep2.data.cells import Indices, spread
from hep2.data.fold import Fold
from hep2.data.opencv import cv2
from hep2.metrics import FloatArray, StringArray
from hep2.rundir.directory import damaged
from hep2.rundir.predictions import cells_table, read_cells_table
from hep2.rundir.result import Run

Grey = NDArray[np.uint8]
Rows = NDArray[np.float64]

TYPICAL, WORST = 2, 2  # reconstructions shown of each pattern
MISTAKES = 12
MAPPED = 1500  # cells on the map of latents: t-SNE takes seconds for these, minutes for many more
FEWEST_MAPPED = 10
MOST_PIXELS = 16_000_000  # of a stored strip: a damaged header must not fill the memory
PLACES = ("pca_1", "pca_2", "tsne_1", "tsne_2")  # columns of a map of latents


@dataclass(frozen=True)
class Sheet:
    """A strip of stored cells."""

    cells: list[dict[str, Any]]  # what is known of each, by name
    images: Grey  # shape (rows, cells, H, W)


@dataclass(frozen=True)
class LatentMap:
    """Where an autoencoder puts its test cells; the columns of `places` are PLACES."""

    specimens: StringArray
    targets: StringArray
    places: FloatArray


def audit_of(run: Run) -> Mapping[str, Any] | None:
    """The leakage audit of a run's split; None where it kept none."""
    counts = ("shared_specimens", "cells_of_shared_specimens", "identical_cells",
              "near_duplicate_cells")  # fmt: skip
    audit = run.kept.get("audit")
    if audit is not None and not (
        isinstance(audit, dict) and all(isinstance(audit.get(name), int | None) for name in counts)
    ):
        raise damaged(run.path / "result.json", "key audit is not an audit")
    return audit


def chosen_of(run: Run) -> str:
    """What inner folds chose, e.g. "C=10, gamma=0.25"; empty where there was nothing to choose."""
    chosen = run.kept.get("chosen") or {}
    if not isinstance(chosen, dict) or not all(
        isinstance(value, str | int | float | list | None) for value in chosen.values()
    ):
        raise damaged(run.path / "result.json", "key chosen holds no settings")
    texts = [f"{value:.4g}" if isinstance(value, float) else value for value in chosen.values()]
    return ", ".join(f"{key}={text}" for key, text in zip(chosen, texts, strict=True))


def cells_needed_of(run: Run) -> dict[str, int]:
    """How many cells the call of each test specimen had needed, by its name; none without them."""
    try:
        calls = run.kept.get("specimen_calls", [])
        return {str(one["specimen"]): int(one["cells_needed"]) for one in calls}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise damaged(run.path / "result.json", f"key specimen_calls ({error})") from error


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


# --- strips of cells


def mistakes_record(fold: Fold, probabilities: Rows) -> dict[str, Any]:
    """The most confident mistakes among the test cells: who they are, and a strip of images.

    `probabilities` are of the test cells, shape (N, classes).
    """
    cells, test = fold.cells, fold.split.test
    outputs, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(outputs != cells.labels[test])
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")[:MISTAKES]]
    described = [
        {
            "id": str(cells.ids[test[row]]),
            "specimen": str(cells.specimens[test[row]]),
            "target": cells.classes[cells.labels[test[row]]],
            "output": cells.classes[outputs[row]],
            "confidence": round(float(confidence[row]), 6),
        }
        for row in shown
    ]
    return _strip(described, _grey(fold, test[shown]))


def mistakes_of(run: Run) -> Sheet | None:
    """The run's most confident mistakes; None where it kept none or made none."""
    return _sheet(run, "mistakes", 1, ("id", "specimen", "target", "output", "confidence"))


def typical_and_worst(errors: Rows, labels: Indices) -> list[tuple[int, str]]:
    """For each pattern the cells about the median error, and those with the greatest.

    Of the errors and the labels of N cells: positions, each with "typical" or "worst".
    """
    chosen: list[tuple[int, str]] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranked = members[np.argsort(errors[members], kind="stable")]
        rest, worst = np.split(ranked, [max(0, len(ranked) - WORST)])
        start = max(0, (len(rest) - TYPICAL) // 2)
        chosen += [(int(row), "typical") for row in rest[start : start + TYPICAL]]
        chosen += [(int(row), "worst") for row in worst[::-1]]
    return chosen


def reconstructions_record(
    fold: Fold, errors: Rows, chosen: list[tuple[int, str]], reconstructions: Grey
) -> dict[str, Any]:
    """Inputs (upper row) and reconstructions (lower row) of some test cells.

    `errors` are the mean squared errors of all test cells, `chosen` is what `typical_and_worst`
    made of them, `reconstructions` are of the chosen cells, shape (len(chosen), H, W).
    """
    cells = fold.cells
    positions = fold.split.test[[row for row, _ in chosen]]
    described = [
        {
            "id": str(cells.ids[position]),
            "pattern": cells.classes[cells.labels[position]],
            "kind": kind,
            "mse": float(f"{errors[row]:.6g}"),
        }
        for position, (row, kind) in zip(positions, chosen, strict=True)
    ]
    return _strip(described, _grey(fold, positions), reconstructions)


def reconstructions_of(run: Run) -> Sheet | None:
    """Inputs and reconstructions of typical and worst cells; None where the run kept none."""
    return _sheet(run, "reconstructions", 2, ("id", "pattern", "kind", "mse"))


def _grey(fold: Fold, positions: Indices) -> Grey:
    """Some cells as 8-bit images, shape (N, H, W)."""
    scaled = fold.cells.images[positions, 0].astype(np.float32) * (255 / fold.cells.full_scale)
    return np.asarray(np.rint(scaled), dtype=np.uint8)


def _strip(described: list[dict[str, Any]], *rows: Grey) -> dict[str, Any]:
    """Rows of images, each of shape (cells, H, W), as one grey PNG in base64."""
    if not described:
        return {"cells": [], "png": ""}
    picture = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    done, png = cv2.imencode(".png", picture)
    assert done, "OpenCV cannot write PNG"
    return {"cells": described, "png": base64.b64encode(png.tobytes()).decode("ascii")}


def _sheet(run: Run, key: str, rows: int, fields: tuple[str, ...]) -> Sheet | None:
    """What `_strip` made, with these fields of each cell."""
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
    return Sheet(cells, picture.reshape(rows, side, len(cells), side).swapaxes(1, 2))


def _decoded(text: str) -> Grey:
    from PIL import Image

    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from error
    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        if math.prod(picture.size) > MOST_PIXELS or picture.mode != "L":
            raise ValueError(f"a picture {picture.size} {picture.mode}")
        return np.asarray(picture, dtype=np.uint8)


# --- maps of latents


def latent_map(latents: NDArray[np.float32], seed: int) -> Rows:
    """Two maps of latents (N, D): the first two principal components, and t-SNE.

    t-SNE (van der Maaten and Hinton, JMLR 9 (2008) 2579-2605) starts from the first principal
    components and reads at most 50 of them, as its authors advise. Distances between its groups
    mean nothing.

    Shape (N, 4), columns PLACES: NaN for all where there are too few cells, and for cells that an
    evenly spaced choice of MAPPED left out.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    places = np.full((len(latents), 4), np.nan)
    if len(latents) < FEWEST_MAPPED:
        return places
    shown = spread(len(latents), MAPPED)
    components = min(50, len(shown) - 1, latents.shape[1])
    pca = PCA(components, svd_solver="randomized", random_state=seed)
    scores = pca.fit_transform(latents[shown])
    if components < 2 or not scores[:, 0].std() > 0:
        return places
    tsne = TSNE(perplexity=min(30.0, (len(shown) - 1) / 3), init="pca", random_state=seed)
    places[shown] = np.hstack([scores[:, :2], tsne.fit_transform(scores)])
    return places


def cells_csv(fold: Fold, errors: Rows, places: Rows) -> str:
    """predictions.csv of an autoencoder: what it makes of each test cell, and where it puts it."""
    columns = {"mse": [f"{error:.6g}" for error in errors]}
    for name, column in zip(PLACES, places.T, strict=True):
        columns[name] = ["" if np.isnan(value) else f"{value:.5g}" for value in column]
    return cells_table(fold.cells, fold.split.test, columns)


def reconstruction_errors(file: Path, ids: StringArray) -> FloatArray | None:
    """Of some test cells, (N,), as an autoencoder's predictions.csv has them; None without them.

    Raises:
        HEp2Error: the file is damaged.
    """
    try:
        table = read_cells_table(file, ["id"])
        if "mse" not in table or not np.isin(ids, table["id"]).all():
            return None
        errors = dict(zip(table["id"], table["mse"], strict=True))
        return np.array([float(errors[name]) for name in ids])
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise damaged(file, f"its errors cannot be read ({error})") from error


def latents_of(run: Run) -> LatentMap | None:
    """The map of latents in an autoencoder's predictions.csv; None where there is none."""
    file = run.path / "predictions.csv"
    if run.kind != "reconstruction" or not file.is_file():
        return None
    try:
        table = read_cells_table(file, ["specimen", "target", *PLACES])
        mapped = table[table["tsne_1"] != ""]
        places = mapped[list(PLACES)].to_numpy().astype(np.float64)
    except (ValueError, OSError) as error:
        raise damaged(file, f"its map of latents cannot be read ({error})") from error
    specimens, targets = (mapped[name].to_numpy(np.str_) for name in ("specimen", "target"))
    return LatentMap(specimens, targets, places) if len(mapped) else None
