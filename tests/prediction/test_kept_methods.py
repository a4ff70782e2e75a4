"""Methods that are not networks alone: masks, runs of before, foreign files, export."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CHOOSING, TINY, TINY_DATA, Configure, composed
from helpers.trained_runs import check_predicts_as_tested, write_test_cells

from hep2 import run as runs
from hep2.data.fold import Fold, open_fold
from hep2.errors import HEp2Error
from hep2.prediction.export import export
from hep2.prediction.models import load_ensemble
from hep2.prediction.predict import predict
from hep2.rundir.directory import RunDir

CODEBOOK = ("stage=head", "features=codebook", "head=nch", "features.extractor.words=8",
            "features.extractor.sample=1000")  # fmt: skip
PLUS = ("augment=pose", "model.network.bounded=false", "stage.epochs=1")
FISHER = (*PLUS, "stage=head", "features=dcae_fisher", "features.local.components=4",
          "features.local.gaussians=2", "features.local.sample=500")  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> RunDir:
    """A run of a codebook, fold 0. Read only."""
    where = (f"runs_dir={tmp_path_factory.mktemp('fitted')}/runs", f"cache_dir={cache_dir}")
    return runs.fit(composed(*TINY, *where, *CODEBOOK))


@pytest.fixture
def codebook(fitted: RunDir, tmp_path: Path) -> RunDir:
    """The same, among the runs of `configure`, to be changed."""
    root = fitted.path.parents[4]
    shutil.copytree(root, tmp_path / "runs")
    return RunDir(tmp_path / "runs" / fitted.path.relative_to(root))


def masked(fold: Fold) -> Fold:
    """Two of three cells have a mask: their upper part."""
    masks = np.zeros(fold.cells.images.shape, np.uint8)
    masks[::3, :, :20] = masks[1::3, :, :40, 10:] = 255
    return replace(fold, cells=replace(fold.cells, masks=masks))


@pytest.fixture
def with_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set brings masks."""
    monkeypatch.setattr(runs, "open_fold", lambda cfg: masked(open_fold(cfg)))


def check_that_a_batch_without_a_usable_cell_is_borne(run: RunDir, folder: Path) -> None:
    (folder / "broken").mkdir()
    (folder / "broken" / "0.png").write_bytes(b"")
    predict(str(run.path), folder, f"{folder}/broken", f"{folder}/broken.csv", None)
    (row,) = pd.read_csv(folder / "broken.csv").itertuples()
    assert np.isnan(row.output) and row.problem.startswith("the file is empty")


@pytest.mark.usefixtures("with_masks")
@pytest.mark.parametrize("words", [CODEBOOK, FISHER])
def test_masks_beside_cells_are_those_of_training(
    words: tuple[str, ...],
    configure: Configure,
    fold: Fold,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if words is FISHER:
        runs.fit(configure(*PLUS, "stage=dcae_plus"))
    run, masks = runs.fit(configure(*words)), masked(fold).cells.masks
    cells = write_test_cells(fold, tmp_path / "cells", masks)
    found = check_predicts_as_tested(run, cells, tmp_path)
    assert "learned with masks, and 9 of 26 cells have none beside them" in caplog.text
    check_that_a_batch_without_a_usable_cell_is_borne(run, tmp_path)
    bare = write_test_cells(fold, tmp_path / "bare")
    with pytest.raises(AssertionError):
        check_predicts_as_tested(run, bare, tmp_path)
    assert "learned with masks, and 26 of 26 cells have none beside them" in caplog.text
    masks_of = (cells / f"{Path(name).stem}_mask.png" for name in found.id)
    lines = [f"bare/{name},{f'cells/{mask.name}' if mask.is_file() else ''}"
             for name, mask in zip(found.id, masks_of, strict=True)]  # fmt: skip
    (tmp_path / "listed.csv").write_text("\n".join(["image,mask", *lines]))
    check_predicts_as_tested(run, tmp_path / "listed.csv", tmp_path)


def test_a_run_that_has_kept_nothing(codebook: RunDir, configure: Configure) -> None:
    codebook.fitted.unlink()
    with pytest.raises(HEp2Error, match=r"has not kept what it has learned.*overwrite=true"):
        load_ensemble(str(codebook.path), Path())
    again = runs.fit(configure(*CODEBOOK, "overwrite=true"))
    assert load_ensemble(str(again.path), Path()).classes


def test_what_another_fold_has_kept_is_refused(codebook: RunDir, configure: Configure) -> None:
    other = runs.fit(configure(*CODEBOOK, "fold=1"))
    shutil.copy(other.fitted, codebook.fitted)
    with pytest.raises(HEp2Error, match=r"fitted\.ckpt is damaged.*another run.*split, fold"):
        load_ensemble(str(codebook.path), Path())


def test_what_does_not_fit_together_is_one_sentence(codebook: RunDir) -> None:
    content = torch.load(codebook.fitted, weights_only=True)
    content["state_dict"]["estimator"]["state"]["classes"] = 4
    torch.save(content, codebook.fitted)
    with pytest.raises(HEp2Error, match=r"does not fit together.*overwrite=true"):
        load_ensemble(str(codebook.path), Path())


def test_clusters_have_no_patterns(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "clustering-dcae/fold0/seed0")
    run.write_result({"kind": "clustering"})
    with pytest.raises(HEp2Error, match="holds clusters, which have no patterns to name"):
        load_ensemble(str(tmp_path), tmp_path)


def test_what_torch_alone_computes_is_exported(
    configure: Configure, fold: Fold, tmp_path: Path
) -> None:
    """An ensemble of Fisher vectors and of latents, each in its own number of orientations."""
    runs.fit(configure(*PLUS, "stage=dcae_plus"))
    means = (*PLUS, "stage=head", "features=dcae_plus", "head=mlp_means")
    for words in ((*FISHER, "features.orientations=1"), means):
        runs.fit(configure(*words))
    tiny = configure()
    where = (f"runs_dir={tiny.runs_dir}", f"cache_dir={tiny.cache_dir}", "logger=csv")
    run = runs.fit(composed(*TINY_DATA, *CHOOSING, *where, "stage=ensemble"))
    file, _ = export(str(run.path), tmp_path, str(tmp_path / "m.pt2"), None)
    told = {"orientations.txt": ""}
    program: Any = torch.export.load(file, extra_files=told).module()
    pixels = torch.from_numpy(fold.cells.images[fold.split.test].astype(np.float32))
    found = program(pixels, torch.tensor(255.0))[0].detach().numpy()
    expected = pd.read_csv(run.predictions).filter(regex="^p_").to_numpy()
    assert np.allclose(found, expected, rtol=0, atol=1e-5)
    assert told["orientations.txt"] == "as each member was tested"
    check_that_a_batch_without_a_usable_cell_is_borne(run, tmp_path)


def test_what_is_not_networks_is_not_exported(fitted: RunDir, tmp_path: Path) -> None:
    with pytest.raises(HEp2Error, match=r"not made of networks alone.*out=model\.hep2 hands it on"):
        export(str(fitted.path), tmp_path, str(tmp_path / "m.pt2"), None)
    assert json.loads(fitted.result.read_text())["method"] == "codebook-nch"
