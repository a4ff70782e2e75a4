"""A test specimen is unlike the training cells where the fold's autoencoder cannot rebuild it."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, Trained, composed
from helpers.results import result
from omegaconf import DictConfig

from hep2.calls.answer import TOO_FEW, UNLIKE
from hep2.errors import HEp2Error
from hep2.run import fit
from hep2.rundir.directory import RunDir
from hep2.rundir.result import read_run

BARE = ("stage.calibration.folds=0", "stage.epochs=1", "overwrite=true")


@pytest.fixture
def encoder(trained: Trained, tmp_path: Path) -> Path:
    """predictions.csv of the tiny autoencoder, in runs of its own."""
    shutil.copytree(trained.runs_dir, tmp_path / "runs")
    copied = tmp_path / "runs" / trained.dcae.path.relative_to(trained.runs_dir)
    return RunDir(copied).predictions


@pytest.fixture
def asked(encoder: Path, tmp_path: Path, cache_dir: Path) -> DictConfig:
    where = (f"runs_dir={tmp_path / 'runs'}", f"cache_dir={cache_dir}")
    return composed(*TINY, *where, "stage=head", *BARE)


def test_the_encoder_s_own_run_tells(encoder: Path, asked: DictConfig) -> None:
    errors = pd.read_csv(encoder)
    strange = errors.specimen.iloc[0]
    errors.loc[errors.specimen == strange, "mse"] = 10 * errors.mse.max()
    errors.sample(frac=1, random_state=0).to_csv(encoder, index=False)  # in any order
    run = fit(asked)
    found = pd.read_csv(run.predictions)
    others = errors.mse[errors.specimen != strange]
    own = (errors.specimen == strange).to_numpy()
    expected = errors.mse[own].iloc[0] / np.percentile(others, 99)
    assert found.novelty[own].to_numpy() == pytest.approx(expected, rel=1e-4)
    again = read_run(run.path).cells
    assert again.unlike is not None and again.unlike[own].all()
    said = {one["specimen"]: one for one in result(run)["specimen_calls"]}
    assert said[strange]["reason"] == UNLIKE and said[strange]["unlike"] == own.sum()
    assert {one["reason"] for name, one in said.items() if name != strange} <= {"", TOO_FEW}


@pytest.mark.parametrize("how", ["missing", "other cells", "no errors"])
def test_where_it_cannot_tell_nothing_is_written(
    how: str, encoder: Path, asked: DictConfig
) -> None:
    table = pd.read_csv(encoder)
    if how == "missing":
        encoder.unlink()
    else:
        changed = table[1:] if how == "other cells" else table.drop(columns="mse")
        changed.to_csv(encoder, index=False)
    run = fit(asked)
    assert "novelty" not in pd.read_csv(run.predictions)
    assert read_run(run.path).cells.unlike is None
    assert {one["unlike"] for one in result(run)["specimen_calls"]} == {None}


def test_a_damaged_file_is_named(encoder: Path, asked: DictConfig) -> None:
    table = pd.read_csv(encoder, dtype=str)
    table.loc[0, "mse"] = "much"
    table.to_csv(encoder, index=False)
    with pytest.raises(HEp2Error, match=r"predictions\.csv is damaged.*'much'"):
        fit(asked)
