"""A bioimage.io package, model description 0.5: https://github.com/bioimage-io/spec-bioimage-io.

A zip of the description, the graph with its weights as ONNX, the card, a picture, and test cells
with what the original gives for them. The description holds the SHA-256 of graph and cells.
"""

import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hep2 import __version__
from hep2.errors import HEp2Error
from hep2.evaluation.published import CITATION
from hep2.prediction.exporting.model import Array, Card, ExportedModel, Traced, missing, unreadable
from hep2.prediction.exporting.onnx import onnx_model, read_onnx

FORMAT = "0.5.4"  # of the description: what is used here is in it, and older programs read it
PURPOSE = "Names the staining pattern of single HEp-2 cells; research software, no diagnosis."
TAGS = ["hep-2", "immunofluorescence", "fluorescence-light-microscopy", "2d", "cells", "pytorch",
        "image-classification", "research-only"]  # fmt: skip
SHOWN = 5  # test cells in the package: one of each simulated pattern
# How close to the probabilities beside it a program must come.
CLOSE = {"absolute_tolerance": 1e-5, "relative_tolerance": 1e-4, "output_ids": ["probabilities"]}


def write_bioimageio(path: Path, traced: Traced, card: Card) -> None:
    """Write the zip, and have bioimageio.spec validate it.

    Raises:
        HEp2Error: bioimageio.spec is not installed, or refuses what it is told.
    """
    try:
        import bioimageio.spec  # noqa: F401  before what takes long
    except ImportError as error:
        raise missing(error, "format=bioimageio") from error
    model = _of_scaled_cells(onnx_model(traced))
    arrays = {"cells": traced.cells * np.float32(int(traced.facts["full_scale"]))}
    arrays |= dict(zip(("probabilities", "novelty"), traced.outputs, strict=False))
    files = {
        **{f"{name}.npy": _npy(array[:SHOWN]) for name, array in arrays.items()},
        "model.onnx": model.SerializeToString(),
        "README.md": card.text.encode(),
        "confusion.png": card.picture,
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    described = _description(traced, card, digests, model.opset_import[0].version)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
        archive.writestr("bioimageio.yaml", text)
        for name, content in files.items():
            archive.writestr(name, content)
    _validate(path)


def _of_scaled_cells(model: Any) -> Any:
    """The graph of the one input `pixels`, from 0 to 1: bioimage.io scales before it."""
    import onnx

    graph = model.graph
    (scale,) = (given for given in graph.input if given.name == "full_scale")
    graph.input.remove(scale)
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.float32), "full_scale"))
    return model


def _npy(array: Array) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _description(traced: Traced, card: Card, digests: dict[str, str], opset: int) -> dict[str, Any]:
    """bioimageio.yaml."""
    facts, judges = traced.facts, len(traced.outputs) > 1

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": digests[name]}

    return {
        "format_version": FORMAT,
        "type": "model",
        "name": f"HEp-2 cell patterns ({re.sub('[^a-zA-Z0-9_+-]', '-', card.name)})"[:128],
        "description": " ".join([*card.warnings, PURPOSE]),
        "authors": [{"name": name} for name in card.authors],
        "cite": [CITATION],
        "license": card.license,
        "documentation": "README.md",
        "covers": ["confusion.png"],
        "tags": TAGS,
        "version": __version__,
        "inputs": [_cells(facts, file("cells.npy"))],
        "outputs": [
            _probabilities(list(card.classes), file("probabilities.npy")),
            *([_novelty(file("novelty.npy"))] if judges else []),
        ],
        "weights": {"onnx": {**file("model.onnx"), "opset_version": opset}},
        "config": {"bioimageio": {"reproducibility_tolerance": [CLOSE]}},
    }


def _cells(facts: dict[str, str], test: dict[str, str]) -> dict[str, Any]:
    size = int(facts["image_size"])
    scale = {"gain": 1 / int(facts["full_scale"]), "offset": 0.0}
    return {
        "id": "cells",
        "description": "Single cells in pixel values; the gain is 1 over the value that is white",
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": [facts["channel"]]},
            *({"type": "space", "id": axis, "size": size} for axis in "yx"),
        ],
        "data": {"type": "float32"},
        "preprocessing": [{"id": "scale_linear", "kwargs": scale}],
        "test_tensor": test,
    }


def _probabilities(classes: list[str], test: dict[str, str]) -> dict[str, Any]:
    return {
        "id": "probabilities",
        "description": "Of the patterns; the greatest is the call",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": classes}],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": test,
    }


def _novelty(test: dict[str, str]) -> dict[str, Any]:
    return {
        "id": "novelty",
        "description": "Error of the reconstruction; above 1 the cell is unlike those learned from",
        "axes": [{"type": "batch"}],
        "data": {"type": "float32", "range": [0.0, None]},
        "test_tensor": test,
    }


def _validate(path: Path) -> None:
    """Raise HEp2Error where bioimageio.spec finds anything wrong with a package."""
    from bioimageio.spec import InvalidDescr, load_description

    if isinstance(found := load_description(path), InvalidDescr):
        details = found.validation_summary.details
        told = "; ".join(f"{wrong.loc}: {wrong.msg}" for one in details for wrong in one.errors)
        raise HEp2Error(f"bioimageio.spec refuses the model: {told}")


def read_bioimageio(path: Path) -> ExportedModel:
    """Read a package whose graph is the one that its description names.

    Raises:
        HEp2Error: it is no such package, its graph was changed, or ONNX Runtime is not installed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            described: Any = yaml.safe_load(archive.read("bioimageio.yaml"))
            weights = described["weights"]["onnx"]
            content = archive.read(weights["source"])
            digest = str(weights["sha256"])
    except (zipfile.BadZipFile, OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise unreadable(path, f"it is no package of ours ({error})") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise unreadable(path, "its graph is not the one that its description names")
    return read_onnx(path, content)
