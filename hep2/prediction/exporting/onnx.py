"""ONNX: one file that ONNX Runtime runs without torch."""

import hashlib
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hep2.files import write_atomic
from hep2.prediction.exporting.model import (
    INPUTS,
    OUTPUTS,
    Array,
    ExportedModel,
    Traced,
    missing,
    model_of,
    unreadable,
)

# The last entry of the metadata (field 14 of ONNX's ModelProto) is the SHA-256 of all before it.
# Messages of protobuf may be joined end to end, so it can be written behind.
_KEY = b"\x72\x4a\x0a\x06sha256\x12\x40"


def write_onnx(path: Path, traced: Traced) -> None:
    """Write the file: what its user must know in its metadata, and its own digest."""
    content = onnx_model(traced).SerializeToString()
    write_atomic(path, content + _digest(content))


def _digest(content: bytes) -> bytes:
    return _KEY + hashlib.sha256(content).hexdigest().encode()


def _check_digest(path: Path) -> None:
    """Raise HEp2Error where a file is not as it was written; earlier versions wrote no digest."""
    content = path.read_bytes()
    rest = content[: -len(_digest(b""))]
    if _KEY in content and content != rest + _digest(rest):
        raise unreadable(path, "it is not as it was written, by the digest that it ends with")


def onnx_model(traced: Traced) -> Any:
    """An `onnx.ModelProto` of the inputs `pixels` and `full_scale`, as of `Exported`."""
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter is written in it
    except ImportError as error:
        raise missing(error, "ONNX") from error
    import torch

    for chatter in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(chatter).setLevel(logging.ERROR)
    names: Any = {"input_names": INPUTS, "output_names": OUTPUTS[: len(traced.outputs)]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch
        made: Any = torch.onnx.export(traced.program, **names, dynamo=True, verbose=False)
    model = made.model_proto
    _sum_in_double(model.graph)
    onnx.helper.set_model_props(model, traced.facts)
    onnx.checker.check_model(model)
    return model


def _sum_in_double(graph: Any) -> None:
    """Let every mean and sum be made of float64.

    ONNX Runtime adds up float32 one after the other, which over a cell's pixels is wrong in the
    sixth digit; torch adds them in pairs. What is standardised by such a mean is off everywhere.
    """
    from onnx import TensorProto, helper

    nodes = list[Any]()
    for node in graph.node:
        if node.op_type not in ("ReduceMean", "ReduceSum"):
            nodes.append(node)
            continue
        (made,), wide, given = node.output, f"{node.output[0]}_wide", f"{node.output[0]}_of"
        nodes += [
            helper.make_node("Cast", [node.input[0]], [given], to=TensorProto.DOUBLE),
            node,
            helper.make_node("CastLike", [wide, node.input[0]], [made]),
        ]
        node.input[0], node.output[0] = given, wide
    del graph.node[:]
    graph.node.extend(nodes)


def read_onnx(path: Path, content: bytes | None = None) -> ExportedModel:
    """Read a file, or what is given of it, e.g. from an archive.

    Raises:
        HEp2Error: ONNX Runtime is not installed, or the file cannot be read, or was changed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise missing(error, str(path), "predict") from error
    if content is None:
        _check_digest(path)
    try:
        session = onnxruntime.InferenceSession(
            str(path) if content is None else content, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's have no class in common
        raise unreadable(path, f"ONNX Runtime says {error}") from error
    inputs = {given.name for given in session.get_inputs()}

    def run(images: Array) -> list[Array]:
        given = {"pixels": images, "full_scale": np.array(1, np.float32)}
        found = session.run(None, {name: given[name] for name in inputs})
        return [np.asarray(one) for one in found]

    return model_of(path, session.get_modelmeta().custom_metadata_map, run)
