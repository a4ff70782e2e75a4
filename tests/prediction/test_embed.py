"""Vectors of cells are those of training, by encoders that have not seen the cells."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, Trained, composed
from helpers.results import keep
from helpers.trained_runs import write_test_cells
from numpy.typing import NDArray

from hep2.data.fold import Fold, open_fold
from hep2.errors import HEp2Error
from hep2.features.extraction import features_of
from hep2.prediction.embed import embed
from hep2.run import fit
from hep2.rundir.directory import RunDir

WORDS = (*TINY, "stage=head", "features=pca", "features.extractor.components=3", "head=chance")


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> tuple[Path, Any]:
    """A method of two folds, of five, and its own features of each."""
    where = (f"runs_dir={tmp_path_factory.mktemp('folds')}", f"cache_dir={cache_dir}")
    cfgs = [composed(*WORDS, *where, f"fold={fold}") for fold in (0, 1)]
    root, _ = (fit(cfg).path.parents[1] for cfg in cfgs)
    opened = [open_fold(cfg) for cfg in cfgs]
    matrices = [features_of(cfg, one).inputs.matrix for cfg, one in zip(cfgs, opened, strict=True)]
    return root, list(zip(opened, matrices, strict=True))


def table_of(path: Path) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    read = pd.read_csv(path, keep_default_na=False)
    values = [name for name in read if name.startswith("v") and name[1:].isdigit()]
    return read, read[values].to_numpy(dtype=float)


def test_each_cell_by_the_fold_that_has_not_seen_it(folds: Any, tmp_path: Path) -> None:
    root, parts = folds
    done = embed(str(root), tmp_path, None, str(tmp_path / "v.npy"))
    vectors, (table, _) = np.load(tmp_path / "v.npy"), table_of(tmp_path / "v.csv")
    cells = parts[0][0].cells
    assert vectors.shape == (len(cells), 3) and vectors.dtype == np.float32
    assert sorted(table.id) == cells.ids.tolist()
    of = {identity: place for place, identity in enumerate(cells.ids.tolist())}
    places = [of[identity] for identity in table.id]
    assert np.array_equal(table.specimen, cells.specimens[places])
    tests = [set(fold.split.test.tolist()) for fold, _ in parts]
    for row, vector, place in zip(table.itertuples(), vectors, places, strict=True):
        assert row.fold == (1 if place in tests[1] else 0)
        assert row.held_out == ("yes" if place in tests[0] | tests[1] else "no")
        assert np.allclose(vector, parts[row.fold][1][place], atol=1e-4)
    assert {"yes", "no"} == set(table.held_out)
    assert done.not_held_out == len(cells) - len(tests[0]) - len(tests[1])
    assert (done.cells, done.folds) == (len(cells), {0, 1})
    assert done.files == [tmp_path / "v.npy", tmp_path / "v.csv"]


def test_other_cells_by_one_fold(folds: Any, tmp_path: Path) -> None:
    root, parts = folds
    fold, matrix = parts[0]
    cells = write_test_cells(fold, tmp_path / "cells")
    (cells / "zzz.png").write_bytes(b"no image")
    done = embed(str(root), tmp_path, str(cells), str(tmp_path / "v.csv"))
    table, vectors = table_of(tmp_path / "v.csv")
    assert np.allclose(vectors[:-1], matrix[fold.split.test], atol=1e-4)
    assert np.isnan(vectors[-1]).all() and "cannot be decoded" in table.problem.iloc[-1]
    assert set(table.held_out) == {""} and set(table.fold) == {0}
    assert (done.unreadable, done.not_held_out) == (1, 0)


def test_the_list_of_cells_is_not_written_over(folds: Any, tmp_path: Path) -> None:
    """A table of IDs stands beside v.npy, under the very name that a list of cells may have."""
    root, parts = folds
    cells = write_test_cells(parts[0][0], tmp_path / "cells")
    listed = cells / "v.csv"
    listed.write_text("image\n" + "".join(f"{file.name}\n" for file in cells.glob("*.png")))
    before = listed.read_text()
    with pytest.raises(HEp2Error, match=r"v\.csv would take the place of images=.*v\.csv: choose"):
        embed(str(root), tmp_path, str(listed), str(cells / "v.npy"))
    assert listed.read_text() == before


def test_parquet_holds_the_same(folds: Any, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet", reason="pip install 'hep2[parquet]'")
    root, _ = folds
    for name in ("v.npy", "v.parquet"):
        embed(str(root), tmp_path, None, str(tmp_path / name))
    found = pyarrow.read_table(tmp_path / "v.parquet")
    assert np.array_equal(found["vector"].to_pylist(), np.load(tmp_path / "v.npy"))
    assert found["id"].to_pylist() == table_of(tmp_path / "v.csv")[0].id.tolist()


@pytest.mark.parametrize("stage", ["dcae", "head"])
def test_networks_give_their_latents(
    stage: str, trained: Trained, fold: Fold, tmp_path: Path
) -> None:
    run: RunDir = getattr(trained, stage)
    embed(str(run.path), tmp_path, None, str(tmp_path / "v.npy"), orientations=2)
    table, vectors = pd.read_csv(tmp_path / "v.csv"), np.load(tmp_path / "v.npy")
    cfg = composed(*TINY, "stage=head", f"encoder={trained.dcae.best}", f"cache_dir={tmp_path}")
    expected = pd.DataFrame(features_of(cfg, fold).inputs.matrix, index=fold.cells.ids)
    assert np.allclose(vectors, expected.loc[table.id], atol=1e-5) and vectors.std() > 0.01
    tested = set(fold.cells.ids[fold.split.test])
    assert [held == "yes" for held in table.held_out] == [name in tested for name in table.id]


def copied(trained: Trained, tmp_path: Path) -> RunDir:
    shutil.copytree(trained.runs_dir, tmp_path / "runs")
    return RunDir(tmp_path / "runs" / trained.head.path.relative_to(trained.runs_dir))


def test_another_data_set_is_refused(trained: Trained, tmp_path: Path) -> None:
    run = copied(trained, tmp_path)
    keep(run.path, data_key="f" * 16)
    with pytest.raises(HEp2Error, match=r"the data set of .* is not what it was"):
        embed(str(run.path), tmp_path, None, str(tmp_path / "v.npy"))
    assert not (tmp_path / "v.npy").exists()


@pytest.mark.parametrize("target", ["os.system", "hep2.data.sources.os.system", "builtins.eval"])
def test_a_stored_configuration_runs_nothing_foreign(
    target: str, trained: Trained, tmp_path: Path
) -> None:
    run = copied(trained, tmp_path)
    text = run.config.read_text()
    assert "hep2.data.sources.synthetic" in text
    run.config.write_text(text.replace("hep2.data.sources.synthetic", target))
    with pytest.raises(HEp2Error, match=r"data\.source is .*, none of hep2\.data\.sources"):
        embed(str(run.path), tmp_path, None, str(tmp_path / "v.npy"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run": None}, "which run"),
        ({"run": "nothing"}, "holds no finished run"),
        ({"out": None}, r"must name a file that ends in \.npy, \.csv, \.parquet"),
        ({"out": "v.txt"}, r"must name a file that ends in"),
        ({"images": "nowhere"}, "no such file or folder"),
        ({"orientations": 9}, "from 1 to 8"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    change: dict[str, Any], message: str, trained: Trained, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"run": str(trained.head.path), "runs_dir": tmp_path, "images": None,
                             "out": str(tmp_path / "v.npy")}  # fmt: skip
    with pytest.raises(HEp2Error, match=message):
        embed(**(asked | change))
    assert not list(tmp_path.iterdir())
