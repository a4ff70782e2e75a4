"""An exported file gives the original's probabilities, for any number of cells."""

import json

import numpy as np
import pytest
import torch
from helpers.results import keep
from helpers.trained_runs import CLASSES, write_pair

from hep2.data.simulator.cells import simulate
from hep2.data.views import standardised
from hep2.errors import HEp2Error
from hep2.prediction import export as module
from hep2.prediction.export import export
from hep2.prediction.exporting.model import Traced
from hep2.prediction.exporting.onnx import write_onnx
from hep2.prediction.exporting.traced import TRIED, description
from hep2.prediction.loaded import load_exported
from hep2.prediction.models import load_ensemble

TELLS = {"classes", "image_size", "channel", "orientations", "runs", "data", "synthetic",
         "full_scale", "preprocessing"}  # fmt: skip


def expected(runs, pixels, full_scale, orientations):
    ensemble = load_ensemble("default", runs)
    with torch.inference_mode():
        return [part.numpy() for part in ensemble.network(pixels / full_scale, orientations)]


def test_torch_export_with_two_folds_and_three_orientations(tmp_path):
    for fold in range(2):
        write_pair(tmp_path / "runs", fold)
    file, checked = export("default", tmp_path / "runs", str(tmp_path / "m.pt2"), 3)
    assert "differ by at most" in checked
    told = dict.fromkeys([f"{name}.txt" for name in TELLS], "")
    program = torch.export.load(file, extra_files=told).module()
    assert json.loads(told["classes.txt"]) == CLASSES and told["synthetic.txt"] == "true"
    pixels = torch.randint(0, 65536, (7, 1, 16, 16)).float()
    found = [part.detach().numpy() for part in program(pixels, torch.tensor(65535.0))]
    original = expected(tmp_path / "runs", pixels, 65535, 3)
    for mine, theirs in zip(found, original, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    again = load_exported(file)
    assert again.classes == tuple(CLASSES) and again.image_size == 16 and again.synthetic
    np.testing.assert_allclose(again((pixels / 65535).numpy()), original[0], atol=1e-5)


def test_onnx_runs_in_onnx_runtime(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'hep2[export]'")
    pytest.importorskip("onnxscript", reason="pip install 'hep2[export]'")
    write_pair(tmp_path / "runs")
    file, checked = export("default", tmp_path / "runs", str(tmp_path / "m.onnx"), 1)
    assert "ONNX Runtime" in checked
    session = onnxruntime.InferenceSession(str(file))
    assert session.get_modelmeta().custom_metadata_map.keys() >= TELLS
    pixels = torch.randint(0, 256, (3, 1, 16, 16)).float()
    given = {"pixels": pixels.numpy(), "full_scale": np.array(255, dtype=np.float32)}
    probabilities, novelty = session.run(["probabilities", "novelty"], given)
    mine = expected(tmp_path / "runs", pixels, 255, 1)
    np.testing.assert_allclose(probabilities, mine[0], atol=1e-5)
    np.testing.assert_allclose(novelty, mine[1], rtol=1e-4)
    np.testing.assert_allclose(load_exported(file)((pixels / 255).numpy()), mine[0], atol=1e-5)


def test_what_onnx_adds_up_is_as_exact_as_torchs(tmp_path):
    """ONNX Runtime would add up a cell's pixels one after the other."""
    pytest.importorskip("onnxruntime", reason="pip install 'hep2[export]'")
    pytest.importorskip("onnxscript", reason="pip install 'hep2[export]'")

    class Standardised(torch.nn.Module):
        def forward(self, pixels, full_scale):
            return (standardised(pixels * (1 / full_scale)),)

    images = simulate(cells=30, specimens=10, image_size=64).images[:, None]
    cells = torch.from_numpy(images.astype(np.float32) / np.float32(255))
    inputs = (cells[:2], torch.tensor(1.0))
    shapes = {"pixels": {0: torch.export.Dim("cells")}, "full_scale": {}}
    program = torch.export.export(Standardised(), inputs, dynamic_shapes=shapes)
    write_pair(tmp_path)
    facts = description(load_ensemble("default", tmp_path)) | {"image_size": "64"}
    write_onnx(tmp_path / "m.onnx", Traced(program, facts, cells.numpy(), [cells.numpy()]))
    found = load_exported(tmp_path / "m.onnx")(cells.numpy())
    exact = standardised(cells.double()).numpy()
    assert np.abs(exact).max() > 1
    np.testing.assert_allclose(found, exact, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("learned", "told"),
    [(255, "255 for 8-bit images, 65535"), (4095, "4095 for 16-bit ones, as in")],
)
def test_a_file_tells_what_was_white(tmp_path, learned, told):
    path, _ = write_pair(tmp_path / "runs")
    keep(path, full_scale=learned)
    facts = description(load_ensemble("default", tmp_path / "runs"))
    assert facts["full_scale"] == str(learned) and told in facts["preprocessing"]


def test_a_file_with_other_figures_is_refused(tmp_path, monkeypatch):
    write_pair(tmp_path / "runs")
    monkeypatch.setattr(module, "load_exported", lambda _: lambda cells: np.full((TRIED, 3), 0.5))
    with pytest.raises(HEp2Error, match="was not written: its probabilities differ"):
        export("default", tmp_path / "runs", str(tmp_path / "m.pt2"), 1)
    assert not (tmp_path / "m.pt2").exists()


@pytest.mark.parametrize("out", [None, "model", "model.pt"])
def test_the_format_is_named_by_the_file(tmp_path, out):
    write_pair(tmp_path / "runs")
    with pytest.raises(HEp2Error, match=r"ends in \.onnx, \.pt2 or \.hep2"):
        export("default", tmp_path / "runs", out, 1)
