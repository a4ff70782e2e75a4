"""Prediction and export give a run's probabilities at the temperature that it has learned."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Trained
from helpers.results import keep
from helpers.trained_runs import write_test_cells
from PIL import Image

from hep2.calls.calibration import Calibration, Limits
from hep2.calls.record import as_record
from hep2.calls.temperature import tempered
from hep2.data.fold import Fold
from hep2.errors import HEp2Error
from hep2.evaluation.report import make_report
from hep2.prediction.export import export
from hep2.prediction.loaded import load
from hep2.prediction.models import load_ensemble
from hep2.prediction.predict import predict

T = 0.4


@pytest.fixture
def calibrated(trained: Trained, fold: Fold, tmp_path: Path) -> Path:
    """The trained head, as if it had learned a temperature."""
    shutil.copytree(trained.runs_dir, tmp_path / "runs")
    path = tmp_path / "runs" / trained.head.path.relative_to(trained.runs_dir)
    classes = fold.cells.classes
    limits = Limits(0.1, np.full(5, 0.5), np.full(5, 0.6), np.zeros(5, dtype=np.bool_))
    record = as_record(Calibration(T, "made up", 20, 400, (limits,), 0.3, 10), classes)
    keep(path, calibration=record)
    return path


def expected(path: Path, classes: tuple[str, ...]) -> np.ndarray:
    table = pd.read_csv(path / "predictions.csv")
    return tempered(table[[f"p_{name}" for name in classes]].to_numpy(), T)


def test_predict(calibrated: Path, fold: Fold, tmp_path: Path) -> None:
    write_test_cells(fold, tmp_path / "cells")
    predict(str(calibrated), tmp_path, f"{tmp_path}/cells", f"{tmp_path}/x.csv", None)
    found = pd.read_csv(tmp_path / "x.csv")
    shares = found[[f"p_{name}" for name in fold.cells.classes]].to_numpy()
    assert np.allclose(shares, expected(calibrated, fold.cells.classes), rtol=0, atol=1e-5)
    assert found.output.tolist() == pd.read_csv(calibrated / "predictions.csv").output.tolist()
    known = load_ensemble(str(calibrated), tmp_path).calibration
    assert known is not None and known.temperature == T
    assert known.limits[0].specimens.tolist() == [0.6] * 5
    inside = [[name for name in fold.cells.classes if 1 - row[f"p_{name}"] <= 0.5]
              for _, row in found.iterrows()]  # fmt: skip
    assert found["set"].fillna("").tolist() == ["; ".join(names) for names in inside]
    assert {len(names) for names in inside} == {0, 1}, "else this shows nothing"
    with pytest.raises(HEp2Error, match=r"alpha=0\.05: the run has learned the limits of 0\.1; "):
        predict(
            str(calibrated), tmp_path, f"{tmp_path}/cells", f"{tmp_path}/x.csv", None, alpha=0.05
        )


def test_export(calibrated: Path, fold: Fold, tmp_path: Path) -> None:
    file, _ = export(str(calibrated), tmp_path, str(tmp_path / "m.pt2"), orientations=None)
    pixels = torch.from_numpy(fold.cells.images[fold.split.test].astype(np.float32))
    found = torch.export.load(file).module()(pixels, torch.tensor(255.0))[0].detach().numpy()
    assert np.allclose(found, expected(calibrated, fold.cells.classes), rtol=0, atol=1e-5)
    images, names = fold.cells.images[fold.split.test, 0], fold.cells.specimens[fold.split.test]
    of_file, of_run = load(file), load(calibrated)
    calls = [one.specimens(one.predict(images).assign(specimen=names)) for one in (of_file, of_run)]
    pd.testing.assert_frame_equal(*calls, check_exact=False, atol=1e-5)
    assert (calls[0].reason == "too few cells").any() and not calls[0].said.all()


@pytest.mark.parametrize("door", ["predict", "export", "load", "report"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperature": 0}, r"key calibration\.temperature is '0'"),
        ({"sets": [{"alpha": 2}]}, r"key calibration\.sets\[0\].* is '2'|lacks"),
        ("cut off", "cannot be read as JSON"),
    ],
)
def test_a_calibration_that_is_none_is_told(
    changes: dict[str, object] | str, said: str, door: str, calibrated: Path, tmp_path: Path
) -> None:
    file = calibrated / "result.json"
    if isinstance(changes, str):
        file.write_text(file.read_text()[:-100])
    else:
        result = json.loads(file.read_text())
        result["calibration"] |= changes
        file.write_text(json.dumps(result))
    runs = tmp_path / "runs"
    doors: dict[str, Callable[[], object]] = {
        "predict": lambda: predict(str(calibrated), runs, str(tmp_path), f"{tmp_path}/x.csv", None),
        "export": lambda: export(str(calibrated), runs, f"{tmp_path}/m.pt2", orientations=None),
        "load": lambda: load(calibrated),
        "report": lambda: make_report("default", runs, tmp_path / "reports"),
    }
    Image.new("L", (20, 20)).save(tmp_path / "cell.png")
    with pytest.raises(HEp2Error, match=rf"result\.json is damaged or foreign: .*({said})"):
        doors[door]()
