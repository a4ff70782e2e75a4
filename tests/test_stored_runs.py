"""Runs that the code before the rebuilding made (tests/stored_runs) are read, and refused.

They were made with the words below. A change of this test's outcome is a change of what users' runs
are worth.
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

from hep2.errors import HEp2Error
from hep2.run import fit
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import run_path
from hep2.rundir.result import read_run

WORDS = (
    *("data.source.cells=120", "data.source.specimens=20", "data.image_size=16"),
    *("model.network.widths=[4,8]", "stage.epochs=3", "stage.batch_size=16", "head.widths=[8]"),
    *("features.orientations=2", "trainer.accelerator=cpu", "~callbacks.progress"),
    *("logger=csv", "checkpoint_seconds=0"),
)
NEW = {
    "called_against_error",
    "full_scale",
    "notes",
    "labelled",
    "calibration",
    "specimen_calls",
    "precision",
}  # keys of result.json that came later


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


@pytest.mark.parametrize(
    ("stage", "name"), [("dcae", "stored"), ("head", "stored"), ("dcae", "interrupted")]
)
def test_the_same_command_would_come_to_other_numbers_and_is_refused(
    stage: str, name: str, runs: Path, cache_dir: Path
) -> None:
    cfg = configured(runs, cache_dir, stage, name)
    cfg.protocol.validation = 0.2  # what it was then, unasked
    before = files_of(RunDir(run_path(cfg)))
    with pytest.raises(HEp2Error, match=r"another configuration \(.*recipe: 1 there, 2 asked"):
        fit(cfg)
    assert before and files_of(RunDir(run_path(cfg))) == before


def test_a_head_takes_the_stored_encoder(runs: Path, cache_dir: Path) -> None:
    encoder = RunDir(run_path(configured(runs, cache_dir, "dcae")))
    cfg = configured(runs, cache_dir, "head")
    cfg.protocol.validation = 0.2
    stored = result_of(RunDir(run_path(cfg)))
    shutil.rmtree(run_path(cfg))
    before = files_of(encoder)
    found = result_of(fit(cfg))
    assert found["encoder_seconds"] == result_of(encoder)["seconds"]
    assert found["split_hash"] == stored["split_hash"]
    assert found.keys() == stored.keys() | NEW
    assert found["precision"] == "32-true"
    assert files_of(encoder) == before
