"""torch.export: one file that torch runs without the code of the networks."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hep2.nets.architectures import check_archive
from hep2.prediction.exporting.model import Array, ExportedModel, Traced, model_of, unreadable

# What is read back; older files have no calibration.
_TOLD = ("classes", "image_size", "channel", "full_scale", "synthetic", "calibration")


def write_pt2(path: Path, traced: Traced) -> None:
    """Write the file, what its user must know beside the graph, one text a fact."""
    import torch

    extra = {f"{name}.txt": text for name, text in traced.facts.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that are not on a CPU; these are
        torch.export.save(traced.program, path, extra_files=extra)


def read_pt2(path: Path) -> ExportedModel:
    """Read a file, and run nothing that it holds but its graph.

    Raises:
        HEp2Error: the file cannot be read, was changed, or would run code.
    """
    import torch

    told = dict.fromkeys([f"{name}.txt" for name in _TOLD], "")
    try:
        check_archive(path)
        with _no_code():
            program = torch.export.load(path, extra_files=told).module()
    except Exception as error:  # torch's have no class in common
        first = str(error).strip().partition("\n")[0]
        raise unreadable(path, f"torch says {type(error).__name__} {first}") from error

    def run(images: Array) -> list[Array]:
        with torch.inference_mode():
            found = program(torch.from_numpy(images), torch.tensor(1.0))
        return [one.numpy() for one in found]

    facts = {name.removesuffix(".txt"): text for name, text in told.items() if text}
    return model_of(path, facts, run)


@contextmanager
def _no_code() -> Iterator[None]:
    """No pickle is run meanwhile: torch.export.load reads tensors that say so as `pickle` would."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
