"""Training cells beside a doubtful one are those that the run learned from, or it says why not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import composed
from helpers.results import keep
from helpers.small_fields import write_fields
from helpers.trained_runs import write_pair
from omegaconf import OmegaConf

import hep2
from hep2.data.fold import Fold, open_fold
from hep2.errors import HEp2Error
from hep2.prediction.models import load_ensemble
from hep2.prediction.nearest import TrainingCells, training_cells
from hep2.prediction.predict import predict


@pytest.fixture
def learned(tmp_path: Path, cache_dir: Path) -> tuple[Path, Fold]:
    """A run with the configuration and the split of a small simulated data set."""
    path, _ = write_pair(tmp_path / "runs", limit=0.1)
    small = ("data.source.cells=60", "data.source.specimens=20", "data.image_size=16")
    cfg = composed("stage=head", *small, "protocol.folds=2", f"cache_dir={cache_dir}")
    fold = open_fold(cfg)
    OmegaConf.save(cfg, path / "config.yaml", resolve=True)
    keep(path, data_key=fold.provenance["data"], split_hash=fold.provenance["split"])
    return path, fold


def found_by(path: Path) -> TrainingCells | str:
    return training_cells(load_ensemble(str(path), path, 1))


def test_the_nearest_of_a_training_cell_is_itself(learned: tuple[Path, Fold]) -> None:
    path, fold = learned
    found = found_by(path)
    assert isinstance(found, TrainingCells)
    for cell in fold.split.train[::7]:
        first, *others = found.nearest(fold.cells.images[cell, 0], 3)
        assert first.id == fold.cells.ids[cell]
        assert first.specimen == fold.cells.specimens[cell]
        assert first.label == fold.cells.classes[fold.cells.labels[cell]]
        np.testing.assert_array_equal(first.image, fold.cells.images[cell, 0])
        assert len({first.id, *(one.id for one in others)}) == 3


def test_a_table_of_them_for_the_cells_that_are_asked_for(learned: tuple[Path, Fold]) -> None:
    path, fold = learned
    cells = fold.split.train[:2]
    model = hep2.load(path, orientations=1)
    found = model.nearest(fold.cells.images[cells, 0], count=2)
    assert found["rank"].tolist() == [1, 2, 1, 2]
    first = found[found["rank"] == 1]
    assert first.neighbour.tolist() == fold.cells.ids[cells].tolist()
    assert first.specimen.tolist() == fold.cells.specimens[cells].tolist()
    assert first.distance.tolist() == pytest.approx([0, 0], abs=1e-2)
    assert (found[found["rank"] == 2].distance > 0.1).all()
    keep(path, data_key="0" * 16)
    with pytest.raises(HEp2Error, match="cannot be opened here"):
        model.nearest(fold.cells.images[cells, 0])


def test_test_cells_are_never_neighbours(learned: tuple[Path, Fold]) -> None:
    path, fold = learned
    found, trained = found_by(path), set(fold.cells.ids[fold.split.train].tolist())
    assert isinstance(found, TrainingCells)
    for cell in fold.split.test[::5]:
        assert {one.id for one in found.nearest(fold.cells.images[cell, 0], 5)} <= trained


def test_another_data_set_is_told(learned: tuple[Path, Fold]) -> None:
    path, _ = learned
    cfg = OmegaConf.load(path / "config.yaml")
    cfg.data.source.seed = 1
    OmegaConf.save(cfg, path / "config.yaml")
    assert "is not what it was" in str(found_by(path))


def test_a_missing_data_set_is_told(learned: tuple[Path, Fold]) -> None:
    path, _ = learned
    cfg = OmegaConf.load(path / "config.yaml")
    cfg.data.source = {"_target_": "hep2.data.sources.i3a", "root": str(path / "gone")}
    OmegaConf.save(cfg, path / "config.yaml")
    said = str(found_by(path))
    assert "cannot be opened here (data.root=" in said and "no such folder" in said


@pytest.mark.parametrize(
    "source",
    [
        {"_target_": "pathlib.Path.touch", "self": "{marker}"},
        {"_target_": "hep2.data.sources.folder",
         "root": {"_target_": "pathlib.Path.touch", "self": "{marker}"}},
        {"_target_": "hep2.data.sources.Path", "root": "x"},
        "none",
    ],
)  # fmt: skip
def test_a_stored_configuration_calls_nothing_else(
    source: object, learned: tuple[Path, Fold], tmp_path: Path
) -> None:
    path, _ = learned
    marker = tmp_path / "marker"
    cfg = OmegaConf.load(path / "config.yaml")
    cfg.data.source = json.loads(json.dumps(source).replace("{marker}", str(marker)))
    OmegaConf.save(cfg, path / "config.yaml")
    assert "cannot be opened here" in str(found_by(path))
    assert not marker.exists()


def test_the_page_shows_them(learned: tuple[Path, Fold], tmp_path: Path) -> None:
    path, fold = learned
    fields, masks = write_fields(tmp_path, "f")
    asked = (str(path), path, str(fields), str(tmp_path / "out.csv"), 1)
    predict(*asked, masks=str(masks), nearest=2)
    text = (tmp_path / "out.html").read_text()
    assert text.count('<div class="near">') == 3  # all three cells are unlike
    assert any(f", {name}" in text for name in fold.cells.specimens)
    with pytest.raises(HEp2Error, match="nearest=6 must be a whole number from 0 to 5"):
        predict(*asked, masks=str(masks), nearest=6)


def test_the_page_says_why_they_are_missing(tmp_path: Path) -> None:
    path, _ = write_pair(tmp_path / "runs")
    fields, masks = write_fields(tmp_path, "f")
    out = tmp_path / "out.csv"
    predict(str(path), path, str(fields), str(out), 1, masks=str(masks), nearest=2)
    said = "The nearest training cells are left out: the data set that it learned from"
    assert said in out.with_suffix(".html").read_text()


def test_scales_of_vectors_do_not_matter(learned: tuple[Path, Fold]) -> None:
    path, fold = learned
    found = found_by(path)
    assert isinstance(found, TrainingCells)
    spread = found._vectors.std(dim=0)
    varied = spread > 0
    assert varied.any() and torch.all((spread[varied] - 1).abs() < 1e-3)
    assert len(found._vectors) == len(fold.split.train)
