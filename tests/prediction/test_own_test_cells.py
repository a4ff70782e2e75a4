"""A finished run, asked about its own test cells as images, gives its own predictions.csv."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, Trained, composed
from helpers.trained_runs import write_test_cells
from numpy.typing import NDArray

from hep2.data.fold import Fold
from hep2.prediction.export import export
from hep2.prediction.predict import predict
from hep2.run import fit
from hep2.rundir.directory import RunDir


@pytest.fixture(scope="module")
def run(trained: Trained, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A head that was tested on the means of features over eight orientations."""
    where = (f"runs_dir={tmp_path_factory.mktemp('eight')}", f"cache_dir={cache_dir}")
    asked = ("stage=head", f"encoder={trained.dcae.best}", "features.orientations=8")
    return fit(composed(*TINY, *where, *asked))


def shares(file: Path, fold: Fold) -> NDArray[np.float64]:
    return pd.read_csv(file)[[f"p_{name}" for name in fold.cells.classes]].to_numpy()


def test_predict(run: RunDir, trained: Trained, fold: Fold, tmp_path: Path) -> None:
    write_test_cells(fold, tmp_path / "cells")
    asked = {"runs_dir": tmp_path, "images": f"{tmp_path}/cells", "out": f"{tmp_path}/x.csv"}
    for own, turns in ((run, None), (trained.head, None), (trained.head, 8)):
        predict(str(own.path), **asked, orientations=turns)
        found, expected = shares(tmp_path / "x.csv", fold), shares(own.predictions, fold)
        assert np.allclose(found, expected, rtol=0, atol=1e-6) is (turns is None)


@pytest.mark.parametrize("name", ["m.pt2", "m.onnx"])
def test_export(name: str, trained: Trained, fold: Fold, tmp_path: Path) -> None:
    if name == "m.onnx":
        pytest.importorskip("onnxscript", reason="pip install 'hep2[export]'")
        runtime = pytest.importorskip("onnxruntime", reason="pip install 'hep2[export]'")
    run = trained.head  # of two orientations: tracing eight takes four times as long
    file, _ = export(str(run.path), tmp_path, str(tmp_path / name), orientations=None)
    pixels, full = fold.cells.images[fold.split.test].astype(np.float32), np.float32(255)
    found: Any
    if name == "m.onnx":
        given = {"pixels": pixels, "full_scale": np.array(full)}
        found = runtime.InferenceSession(str(file)).run(["probabilities"], given)[0]
    else:
        program = torch.export.load(file).module()
        found = program(torch.from_numpy(pixels), torch.tensor(full))[0].detach().numpy()
    assert np.allclose(found, shares(run.predictions, fold), rtol=0, atol=1e-6)
