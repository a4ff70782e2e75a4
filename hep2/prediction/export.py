"""Encoder and head as one file that other programs can run: ONNX, or torch.export."""

import json
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram

from hep2.errors import HEp2Error
from hep2.files import write_atomic
from hep2.prediction.models import Ensemble, load_ensemble

TOLERANCE = 1e-5  # greatest difference of a probability between the file and the original
INPUTS, OUTPUTS = ["pixels", "full_scale"], ["probabilities", "novelty"]
Inputs = tuple[Tensor, Tensor]
Checked = tuple[bytes, list[NDArray[np.float32]]]  # a file, and what it gives for the trial images
_TRIAL_CELLS = 5  # not the number that was traced: the batch must be free


class Exported(nn.Module):
    """An ensemble with its arithmetic of pixels, as it goes into the file."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.network, self.orientations = ensemble.network, ensemble.orientations
        self.judges = ensemble.judges

    def forward(self, pixels: Tensor, full_scale: Tensor) -> tuple[Tensor, ...]:
        """Probabilities and, where an autoencoder is known, novelty; all is float32.

        Shape:
            pixels as the image file has them (B, 1, H, W), full_scale, the pixel value that means
            1: 255, 4095, 65535 ... () -> (B, classes), (B,)
        """
        probabilities, novelty = self.network(pixels * (1 / full_scale), self.orientations)
        outputs = (probabilities.float(), novelty.float())
        return outputs if self.judges else outputs[:1]


def export(
    run: str | None, runs_dir: Path, out: str | None, orientations: int | None
) -> tuple[Path, str]:
    """Write an ensemble to one file and make sure that the file gives the same probabilities.

    `out` ends in .onnx or .pt2 (torch.export), all else as of `load_ensemble`. Returns the file,
    and what was checked, in a sentence.

    Raises:
        HEp2Error: an argument is wrong, a package is missing, or the file gives other numbers.
    """
    writers = {".onnx": _write_onnx, ".pt2": _write_pt2}
    target = Path(out or "")
    if target.suffix not in writers:
        raise HEp2Error(f"out={out} must name a file that ends in .onnx or .pt2")
    ensemble = load_ensemble(run, runs_dir, orientations)
    if not ensemble.of_networks:
        raise HEp2Error(
            f"{ensemble.runs[0]} is not made of networks alone, so no file can hold it: "
            "task=predict and task=embed work"
        )
    module = Exported(ensemble).eval()
    shape = (_TRIAL_CELLS, 1, ensemble.image_size, ensemble.image_size)
    drawn = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0))
    pixels, full_scale = drawn.float(), torch.tensor(255.0)
    with torch.inference_mode():
        expected = module(pixels, full_scale)[0].numpy()
    shapes: Any = {"pixels": {0: torch.export.Dim("cells")}, "full_scale": {}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside torch
        program = torch.export.export(module, (pixels[:2], full_scale), dynamic_shapes=shapes)
        write = writers[target.suffix]
        content, found = write(program, description(ensemble), (pixels, full_scale))
    gap = float(np.abs(found[0] - expected).max())
    if not gap <= TOLERANCE:
        raise HEp2Error(
            f"{target} was not written: its probabilities differ by {gap:.1e} from the original's, "
            f"more than {TOLERANCE:.0e}; try the other format (.onnx or .pt2)"
        )
    write_atomic(target, content)
    runner = "ONNX Runtime" if target.suffix == ".onnx" else "torch.export's loader"
    return target, (
        f"read back by {runner}: probabilities of {_TRIAL_CELLS} random images differ by at most "
        f"{gap:.1e} from the original's"
    )


def description(ensemble: Ensemble) -> dict[str, str]:
    """What a user of the file must know, stored in it."""
    size, learned = ensemble.image_size, ensemble.full_scale or 255
    wide = (
        "65535 for 16-bit ones (4095 where they hold 12 bits)"
        if learned == 255
        else (f"{learned} for 16-bit ones, as in training")
    )
    return {
        "classes": json.dumps(list(ensemble.classes)),
        "image_size": str(size),
        "channel": ensemble.channel,
        "full_scale": str(learned),
        "orientations": str(ensemble.orientations or "as each member was tested"),
        "runs": str(len(ensemble.runs)),
        "data": ensemble.data,
        "synthetic": str(ensemble.synthetic).lower(),
        "preprocessing": (
            f"Take the {ensemble.channel} channel of colour images. Bring the longer side to "
            f"{size} pixels (area average to shrink, bilinear to grow) and fill up the shorter one "
            "on both ends by reflection without repeating the edge. Give the pixels as float32, "
            f"not scaled, and full_scale 255 for 8-bit images, {wide}; the file divides. Where a "
            "file says that white is 0 (TIFF), give full_scale minus its pixels."
        ),
    }


def _write_pt2(program: ExportedProgram, facts: dict[str, str], inputs: Inputs) -> Checked:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.pt2"
        extra = {f"{name}.txt": text for name, text in facts.items()}
        torch.export.save(program, file, extra_files=extra)
        outputs = torch.export.load(file).module()(*inputs)
        return file.read_bytes(), [output.detach().numpy() for output in outputs]


def _write_onnx(program: ExportedProgram, facts: dict[str, str], inputs: Inputs) -> Checked:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter is written in it
    except ImportError as error:
        raise HEp2Error(
            f"ONNX needs the package {error.name}: pip install 'hep2[export]', or export to .pt2"
        ) from error
    for chatter in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(chatter).setLevel(logging.ERROR)
    outputs = OUTPUTS[: len(program.graph_signature.user_outputs)]
    names: Any = {"input_names": INPUTS, "output_names": outputs}
    exported: Any = torch.onnx.export(program, **names, dynamo=True, verbose=False)
    model = exported.model_proto
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    given = {name: value.numpy() for name, value in zip(INPUTS, inputs, strict=True)}
    return content, [np.asarray(output) for output in session.run(None, given)]
