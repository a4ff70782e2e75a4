"""Runs that the code before the rebuilding made (tests/stored_runs) are read, skipped and resumed.

They were made with the words below, on another machine: what is computed again here may differ by
rounding. A change of this test's outcome is a change of what users' runs are worth.
"""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, composed
from omegaconf import DictConfig

from hep2.run import fit
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import run_path
from hep2.rundir.metrics_csv import read_rows
from hep2.rundir.result import read_run
from hep2.tasks.reconstruction import Reconstruction

WORDS = (
    *("data.source.cells=120", "data.source.specimens=20", "data.image_size=16"),
    *("model.network.widths=[4,8]", "stage.epochs=3", "stage.batch_size=16", "head.widths=[8]"),
    *("features.orientations=2", "trainer.accelerator=cpu", "~callbacks.progress"),
    *("logger=csv", "checkpoint_seconds=0"),
)
NEW = {"full_scale", "notes"}  # keys of result.json that came later
OTHER_PROCESSOR = 1e-3  # relative, of a metric


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "tests" / "stored_runs", tmp_path / "runs"))


def configured(runs: Path, cache: Path, stage: str, name: str = "stored") -> DictConfig:
    where = (f"runs_dir={runs}", f"cache_dir={cache}")
    return composed(*WORDS, *where, f"stage={stage}", f"name={name}")


def result_of(run: RunDir) -> dict[str, Any]:
    return dict(json.loads(run.result.read_text()))


def files_of(run: RunDir) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file, but of the lock, which says who came last."""
    return {
        str(file): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in run.path.rglob("*")
        if file.is_file() and file != run.lock
    }


def no_training(*_: object) -> None:
    pytest.fail("a finished run is trained again")


@pytest.mark.parametrize("stage", ["dcae", "head"])
def test_a_finished_run_is_read(stage: str, runs: Path, cache_dir: Path) -> None:
    stored = RunDir(run_path(configured(runs, cache_dir, stage)))
    run, result = read_run(stored.path), result_of(stored)
    keys = ("stage", "method", "kind", "data", "protocol", "fold", "folds", "seed", "leaky",
            "synthetic", "data_key", "split_hash", "metrics", "seconds", "encoder_seconds",
            "labels_in_features")  # fmt: skip
    assert {key: getattr(run, key) for key in keys} == {key: result[key] for key in keys}
    assert run.command == (result["command"] or "")
    assert list(run.classes) == result["classes"]
    if stage == "dcae":
        assert run.predictions is None
        return
    with stored.predictions.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert run.cells.ids.tolist() == [row["id"] for row in rows]
    assert run.cells.specimens.tolist() == [row["specimen"] for row in rows]
    for column, indices in (("target", run.cells.targets), ("output", run.cells.outputs)):
        assert [run.classes[index] for index in indices] == [row[column] for row in rows]
    shares = [[float(row[f"p_{name}"]) for name in run.classes] for row in rows]
    assert np.array_equal(run.cells.probabilities, shares)  # to the last bit


@pytest.mark.parametrize("stage", ["dcae", "head"])
def test_the_same_command_leaves_a_finished_run_alone(
    stage: str, runs: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = configured(runs, cache_dir, stage)
    before = files_of(RunDir(run_path(cfg)))
    assert before
    monkeypatch.setattr("hep2.run.open_fold", no_training)
    assert files_of(fit(cfg)) == before


def test_a_head_takes_the_stored_encoder(runs: Path, cache_dir: Path) -> None:
    encoder = RunDir(run_path(configured(runs, cache_dir, "dcae")))
    cfg = configured(runs, cache_dir, "head")
    stored = result_of(RunDir(run_path(cfg)))
    shutil.rmtree(run_path(cfg))
    before = files_of(encoder)
    found = result_of(fit(cfg))
    assert found["metrics"] == pytest.approx(stored["metrics"], rel=OTHER_PROCESSOR)
    assert found["encoder_seconds"] == result_of(encoder)["seconds"]
    assert found.keys() == stored.keys() | NEW
    assert files_of(encoder) == before


def test_an_interrupted_run_goes_on_from_its_checkpoint(
    runs: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = configured(runs, cache_dir, "dcae", "interrupted")
    _, begun = read_rows(RunDir(run_path(cfg)).metrics)
    epochs: set[int] = set()
    step = Reconstruction.training_step

    def watched(self: Reconstruction, *arguments: Any) -> Any:
        epochs.add(self.current_epoch)
        return step(self, *arguments)

    monkeypatch.setattr(Reconstruction, "training_step", watched)
    run = fit(cfg)
    assert epochs == {2}  # of three; the first two are in the checkpoint
    assert len(begun) == 4 and read_rows(run.metrics)[1][:4] == begun
    found = result_of(run)
    stored = result_of(RunDir(run_path(configured(runs, cache_dir, "dcae"))))
    assert found["metrics"] == pytest.approx(stored["metrics"], rel=OTHER_PROCESSOR)
    assert found["epochs"] == stored["epochs"] == 3
    assert found["curves"].keys() == stored["curves"].keys()
    for name, points in stored["curves"].items():
        assert np.allclose(found["curves"][name], points, rtol=OTHER_PROCESSOR), name
    assert found.keys() == stored.keys() | NEW
