"""What a method has fitted beside its networks, kept in a file that cannot run code.

The file is of the kind that checkpoints are, read by the same safe loader: tensors and built-in
types. What is scikit-learn's lies in it as skops writes it, of the types in `TRUSTED` and skops's
own list, and no others.
"""

import importlib
import io
import logging
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hep2.errors import HEp2Error
from hep2.features.transforms import Encoding, Extraction, FisherEncoding, Representation, Transform
from hep2.files import write_atomic
from hep2.heads.estimator import Estimator
from hep2.nets.architectures import ENCODERS, build, load_weights, read_checkpoint

log = logging.getLogger(__name__)

OURS = re.compile(r"(hep2\.(?:features|heads)\.\w+)\.(\w+)")  # what may be made again, by its name
LIBRARY = "scikit-learn"
# Of scikit-learn, beside its public classes, which skops trusts: what these hold inside.
TRUSTED = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neighbors._ball_tree.BallTree",
    *(f"sklearn.metrics._dist_metrics.EuclideanDistance{bits}" for bits in (32, 64)),
)
_ARRAY, _SKOPS = "__array__", "__skops__"  # keys that mark what is neither tensor nor built-in


@dataclass(frozen=True)
class Kept:
    """What was read: cells to vectors and, where the head is no network, vectors to patterns."""

    representation: Representation
    estimator: Estimator | None
    provenance: dict[str, str | int]  # of the fold that it was fitted to


def write_kept(
    file: Path,
    representation: Representation,
    estimator: Estimator | None,
    provenance: dict[str, str | int],
) -> None:
    """Keep a representation and perhaps a head; what cannot be kept is a warning, and no file.

    Raises:
        HEp2Error: the file cannot be written.
    """
    transforms = [_described(transform) for transform in representation.transforms]
    try:
        state = {"transforms": transforms, "estimator": _thing(estimator) if estimator else None}
    except _CannotBeKept as error:
        log.warning("%s: %s, so this run will name no other cells", file.parent, error)
        return
    settings = {
        "orientations": representation.orientations,
        "provenance": provenance,
        "versions": {LIBRARY: version(LIBRARY)},
    }
    content = io.BytesIO()
    torch.save({"state_dict": state, "hyper_parameters": settings}, content)
    write_atomic(file, content.getbuffer())


def read_kept(file: Path) -> Kept:
    """Read what `write_kept` wrote; another version of scikit-learn is a warning.

    Raises:
        HEp2Error: the file is damaged, foreign, or holds what may not be made again.
    """
    content = read_checkpoint(file)
    state, settings = content["state_dict"], content["hyper_parameters"]
    try:
        written = settings["versions"][LIBRARY]
        if written != version(LIBRARY):
            log.warning(
                "%s was written by %s %s and is read by %s, which may decide otherwise",
                file, LIBRARY, written, version(LIBRARY),
            )  # fmt: skip
        transforms = [_transform(one, file) for one in state["transforms"]]
        representation = Representation(transforms, int(settings["orientations"])).eval()
        estimator: Any = _made_again(state["estimator"]) if state["estimator"] else None
        return Kept(representation, estimator, dict(settings["provenance"]))
    except HEp2Error:
        raise
    except Exception as error:  # foreign values fail in a dozen ways
        raise HEp2Error(
            f"{file} is damaged or foreign ({type(error).__name__}: {error}): "
            f"train its run again with overwrite=true"
        ) from error


def _described(transform: Transform) -> dict[str, Any]:
    """A transform as tensors and built-in types; raises as `_thing`."""
    if isinstance(transform, Encoding):
        weights = {name: value.cpu() for name, value in transform.encoder.state_dict().items()}
        known = {"view": transform.view, **transform.made_by, "weights": weights}
        if isinstance(transform, FisherEncoding):
            known |= {"vectors": _thing(transform.vectors), "masked": transform.masked}
        return known
    assert isinstance(transform, Extraction)
    extractor, settings = _thing(transform.extractor), transform.settings
    return {"extractor": extractor, "settings": settings, "masked": transform.masked}


def _transform(known: dict[str, Any], file: Path) -> Transform:
    """The inverse of `_described`."""
    if "extractor" in known:
        extractor: Any = _made_again(known["extractor"])
        return Extraction(extractor, known["settings"], bool(known["masked"]))
    made_by = {"architecture": known["architecture"], "network": known["network"]}
    encoder = build(ENCODERS, known["architecture"], **known["network"])
    load_weights(encoder, {"state_dict": known["weights"]}, "", file)
    if "vectors" not in known:
        return Encoding(encoder, known["view"], made_by)
    vectors: Any = _made_again(known["vectors"])
    return FisherEncoding(encoder, vectors, known["view"], made_by, bool(known["masked"]))


class _CannotBeKept(Exception):
    """A value that is neither an array nor a built-in type nor scikit-learn's."""


def _thing(thing: Any) -> dict[str, Any]:
    """An extractor or a head: its class's name and its attributes."""
    kind = type(thing)
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "state": _packed(vars(thing))}


def _made_again(known: dict[str, Any]) -> Any:
    """The inverse of `_thing`: no constructor and no foreign class is called."""
    name = str(known["class"])
    match = OURS.fullmatch(name)
    kind: Any = getattr(importlib.import_module(match[1]), match[2]) if match else None
    if not match or not isinstance(kind, type) or kind.__module__ != match[1]:
        raise ValueError(f"{name} is no class of hep2's features or heads")
    thing: Any = object.__new__(kind)
    vars(thing).update(_unpacked(known["state"]))
    return thing


def _packed(value: Any) -> Any:
    """Attributes as tensors and built-in types."""
    if isinstance(value, dict):
        return {str(key): _packed(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(one) for one in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return {_ARRAY: torch.from_numpy(np.require(value, requirements=["C", "W"]))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor | str | int | float | bool | None):
        return value
    if type(value).__module__.startswith("sklearn."):
        return {_SKOPS: _skops(value)}
    raise _CannotBeKept(f"a {type(value).__module__}.{type(value).__qualname__} cannot be kept")


def _skops(value: Any) -> Tensor:
    """What scikit-learn has fitted, as bytes."""
    from skops.io import dumps, get_untrusted_types

    content = dumps(value)
    if foreign := sorted(set(get_untrusted_types(data=content)) - set(TRUSTED)):
        raise _CannotBeKept(f"{', '.join(foreign)} cannot be kept safely")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _unskopped(content: Tensor) -> Any:
    from skops.io import get_untrusted_types, loads

    data = content.numpy().tobytes()
    if foreign := sorted(set(get_untrusted_types(data=data)) - set(TRUSTED)):
        raise ValueError(f"{', '.join(foreign)} is not read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of another version: said once, above
        return loads(data, trusted=list(TRUSTED))


_INVERSE: dict[str, Callable[[Tensor], Any]] = {_ARRAY: Tensor.numpy, _SKOPS: _unskopped}


def _unpacked(value: Any) -> Any:
    """The inverse of `_packed`; tuples have become lists."""
    if isinstance(value, list):
        return [_unpacked(one) for one in value]
    if not isinstance(value, dict):
        return value
    for mark, inverse in _INVERSE.items():
        if mark in value:
            return inverse(value[mark])
    return {key: _unpacked(one) for key, one in value.items()}
