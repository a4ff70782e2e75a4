"""Exported files and folders put to use again, without the runs that they were made from."""

from collections.abc import Callable
from pathlib import Path

from hep2.errors import HEp2Error
from hep2.prediction.exporting.bioimageio import read_bioimageio
from hep2.prediction.exporting.hub import read_hub
from hep2.prediction.exporting.model import ExportedModel
from hep2.prediction.exporting.onnx import read_onnx
from hep2.prediction.exporting.pt2 import read_pt2

_READERS: dict[str, Callable[[Path], ExportedModel]] = {
    ".onnx": read_onnx,
    ".pt2": read_pt2,
    ".zip": read_bioimageio,
}


def load_exported(path: Path) -> ExportedModel:
    """Load what `hep2.prediction.export.export` wrote: .onnx, .pt2, bioimage.io zip, hub folder.

    ONNX Runtime runs all of them but .pt2, for which torch is needed. None runs code of the file's.

    Raises:
        HEp2Error: there is no such file, it was not exported from here, it was changed since, or a
            package that it needs is not installed.
    """
    if path.is_dir():
        return read_hub(path)
    if path.suffix not in _READERS:
        raise HEp2Error(f"{path} is no exported model: .onnx, .pt2, .zip, or a folder for the hub")
    if not path.is_file():
        raise HEp2Error(f"there is no {path}")
    return _READERS[path.suffix](path)
