"""Training specimens are held out, and teach a run how far its probabilities can be believed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY_DATA, Configure, composed
from helpers.results import result
from hydra.utils import instantiate
from numpy.typing import NDArray

from hep2.calls.calibration import calibrated
from hep2.calls.record import from_record
from hep2.data.fold import Fold, open_fold
from hep2.data.protocols import Split
from hep2.errors import HEp2Error
from hep2.heads.estimator import TrainingCells, inner_folds, refitted
from hep2.run import fit
from hep2.rundir.directory import RunDir
from hep2.rundir.result import read_run
from hep2.stages.callbacks import NotFinite
from hep2.stages.classifier import head
from hep2.stages.held_out import settings_of
from hep2.stages.training import NetworkStage, trained_apart

PIXELS = ("stage=head", "features=pixels", "stage.epochs=2", "protocol.validation=0")


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("held_out")


@pytest.fixture
def tiny(configure: Configure, where: Path) -> Configure:
    return lambda *words: configure(*PIXELS, f"runs_dir={where}", *words)


@pytest.fixture
def network(tiny: Configure) -> RunDir:
    return fit(tiny())


def test_every_training_cell_is_named_once_by_a_network_without_it(
    network: RunDir, tiny: Configure, cache_dir: Path
) -> None:
    fold, run = open_fold(tiny()), read_run(network.path)
    held = run.held_out
    assert held is not None
    assert sorted(held.ids) == sorted(fold.cells.ids[fold.split.train])
    record = result(network)["calibration"]
    assert record["method"] == "temperature" and "all 4 inner folds" in record["how"]
    assert (record["specimens"], record["cells"]) == (len(set(held.specimens)), len(held.ids))
    again = calibrated(held, [0.1, 0.05], 10)
    known = run.calibration
    assert not isinstance(again, str) and known is not None
    assert known.temperature == pytest.approx(again.temperature, rel=1e-4), "nine digits are kept"
    assert not list(network.path.glob("apart*")), "the trainings leave nothing behind"


def test_no_prediction_moves(network: RunDir, tiny: Configure) -> None:
    bare = fit(tiny("name=bare", "stage.calibration.folds=0"))
    assert bare.predictions.read_bytes() == network.predictions.read_bytes()
    assert result(bare)["calibration"] == {
        "method": "none",
        "how": "stage.calibration.folds=0 asks for none; each would be one more training",
    }
    assert not bare.held_out.exists()
    metrics, with_calibration = result(bare)["metrics"], result(network)["metrics"]
    assert metrics.items() <= with_calibration.items()
    more = {name.split("/")[-1] for name in with_calibration.keys() - metrics.keys()}
    assert more >= {"ece_calibrated", "brier_calibrated", "cell_coverage_90", "specimen_said"}


def test_trainings_hold_out_whole_specimens_of_the_training_side(
    tiny: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Split, int]] = []

    def look(stage: NetworkStage, loggers: Any) -> None:
        seen.append((stage.fold.split, stage.cfg.trainer.max_epochs))

    words = ("trainings=2", "epochs=0.3", "folds=3")
    cfg = tiny("name=looked", "stage.epochs=10", *(f"stage.calibration.{word}" for word in words))
    fold = open_fold(cfg)
    stage: Any = head(cfg, fold, RunDir(Path(cfg.runs_dir) / "looked"))
    monkeypatch.setattr(NetworkStage, "train", look)
    stage.hold_out()
    assert [epochs for _, epochs in seen] == [3, 3]
    names, test = fold.cells.specimens, set(fold.split.test)
    for split, _ in seen:
        assert not set(names[split.train]) & set(names[split.test])
        assert not test & {*split.train, *split.test}
        assert len(split.train) + len(split.test) == len(fold.split.train)
    assert "2 of 3 inner folds" in stage.held_out.how and "30 % of the epochs" in stage.held_out.how
    assert set(stage.held_out.ids) == {fold.cells.ids[i] for split, _ in seen for i in split.test}


def test_a_training_apart_keeps_no_checkpoint_and_has_the_weights_of_one_that_does(
    tiny: Configure, tmp_path: Path
) -> None:
    cfg, scratch = tiny("name=apart"), RunDir(tmp_path / "scratch")
    fold = open_fold(cfg)
    stage: Any = head(cfg, fold, RunDir(tmp_path / "whole"))
    learning, held = inner_folds(fold, 2)[0]
    with trained_apart(stage, cfg, learning, held, scratch) as trial:
        assert not list(tmp_path.rglob("*.ckpt"))
        apart = trial.task.state_dict()
    with_checkpoints = stage.variant(cfg, trial.fold, stage.run)
    with_checkpoints.train([])
    assert stage.run.last.is_file()
    for name, value in with_checkpoints.task.state_dict().items():
        assert torch.equal(value, apart[name]), name


def test_validation_specimens_serve_where_there_are_some(configure: Configure) -> None:
    words = (*PIXELS[:3], "data.source.specimens=40", "protocol.validation=0.4")
    run = fit(configure(*words, "name=validated", "stage.calibration.fewest_cells=2"))
    fold = open_fold(configure(*words))
    held = read_run(run.path).held_out
    assert held is not None and sorted(held.ids) == sorted(fold.cells.ids[fold.split.val])
    record = result(run)["calibration"]
    assert "validation specimens" in record["how"] and record["fewest_cells"] == 2
    free = fit(configure(*words, "name=free", "stage.calibration.folds=0"))
    assert result(free)["calibration"]["how"] == record["how"], "no training is asked for"
    estimator = fit(configure(*words, "head=knn", "name=validated"))
    assert result(estimator)["calibration"]["how"] == record["how"]


def test_validation_cells_of_specimens_that_were_learned_from_do_not_serve(tiny: Configure) -> None:
    """As a data set may deal out a pool of validation cells of its own."""
    cfg = tiny("head=chance")
    fold = open_fold(cfg)
    train = fold.split.train
    own = np.flatnonzero(fold.cells.specimens[train] == fold.cells.specimens[train[0]])

    def how(val: NDArray[np.int64]) -> str:
        split = replace(fold.split, train=np.delete(train, val), val=train[val])
        stage: Any = head(cfg, replace(fold, split=split), RunDir(Path(cfg.runs_dir) / "dealt"))
        stage.train([])
        stage.hold_out()
        return str(stage.held_out.how)

    assert "inner folds" in how(own[:1]) and "validation specimens" in how(own)


def test_a_pattern_that_was_not_learned_does_not_count(tiny: Configure) -> None:
    cfg = tiny("head=chance")
    fold = open_fold(cfg)
    names = fold.cells.specimens[fold.split.train]
    labels = fold.cells.labels[fold.split.train]
    alone = np.flatnonzero(labels == 2)[0]
    kept = fold.split.train[(labels != 2) | (names == names[alone])]
    fold = replace(fold, split=replace(fold.split, train=kept))
    stage: Any = head(cfg, fold, RunDir(Path(cfg.runs_dir) / "alone"))
    stage.train([])
    stage.hold_out()
    assert 2 not in stage.held_out.labels and len(stage.held_out.labels)


@pytest.mark.parametrize(
    ("words", "how"),
    [
        (("protocol=random",), "no whole specimens"),
        (("~stage.calibration",), "folds=0"),
        (("protocol.labelled=1",), "0 specimens were held out: too few"),
    ],
)
def test_without_specimens_there_is_no_calibration(
    words: tuple[str, ...], how: str, tiny: Configure
) -> None:
    run = fit(tiny("head=chance", "name=none", *words))
    record = result(run)["calibration"]
    assert record["method"] == "none" and how in record["how"]
    assert from_record(record, result(run)["classes"]) is None


def test_a_loss_that_is_no_number_is_no_calibration(
    tiny: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(stage: NetworkStage, loggers: Any) -> None:
        raise NotFinite("the loss is nan")

    cfg = tiny("name=nan")
    stage: Any = head(cfg, open_fold(cfg), RunDir(Path(cfg.runs_dir) / "nan"))
    monkeypatch.setattr(NetworkStage, "train", diverges)
    stage.hold_out()
    assert "not finite" in stage.held_out


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("alpha=0.1", "alpha=0.1 must be a list"),
        ("alpha=[]", "must be a list"),
        ("alpha=[1]", "must be a list"),
        ("folds=1", "folds=1 must be 0, or a number from 2"),
        ("trainings=0", "trainings=0 must be null"),
        ("epochs=0", "epochs=0 must be a share"),
        ("fewest_cells=x", "fewest_cells=x must be a number"),
        ("alpah=[0.1]", "alpah is unknown; there are folds"),
    ],
)
def test_settings_that_are_none_are_refused(word: str, message: str, tiny: Configure) -> None:
    plus = "+" if "alpah" in word else ""
    cfg = tiny(f"{plus}stage.calibration.{word}", "name=refused")

    with pytest.raises(HEp2Error, match=f"stage.calibration.*{message}"):
        settings_of(cfg)
    with pytest.raises(HEp2Error, match=r"must be|is unknown"):  # before anything is trained
        fit(cfg)


# --- heads that are not networks


@pytest.mark.parametrize("name", ["svm", "knn", "nch", "chance", "forest"])
def test_a_head_is_fitted_again_as_its_settings_were_chosen(name: str, fold: Fold) -> None:
    cfg = composed(*TINY_DATA, "stage=head", f"head={name}")
    if name == "forest":
        cfg.head.estimator.classifier.n_estimators = 5
    rng, train = np.random.default_rng(0), fold.split.train
    labels = fold.cells.labels[train]
    features = (rng.normal(0, 1, (len(train), 6)) + labels[:, None]).astype(np.float32)
    cells = TrainingCells(features, labels, 5, inner_folds(fold, 3))
    whole: Any = instantiate(cfg.head.estimator, _convert_="all")
    whole.fit(cells)
    before = whole.probabilities(features)
    learning, held = cells.folds[0]
    part = TrainingCells(features[learning], labels[learning], 5)
    found = refitted(whole, part).probabilities(features[held])
    assert np.array_equal(whole.probabilities(features), before), "the first is as it was"
    fresh: Any = instantiate(cfg.head.estimator, _convert_="all")
    if hasattr(fresh, "grid"):
        fresh.grid = {key: [whole.chosen[key]] for key in fresh.grid}
    fresh.fit(part)
    fresh.temperature = getattr(whole, "temperature", None)  # of an SVM, by its own inner folds
    assert np.array_equal(found, fresh.probabilities(features[held]))
    if name != "chance":
        assert not np.array_equal(found, before[held]), "not by the one that knew them"


# --- ensembles


def test_an_ensemble_learns_from_the_mean_of_what_its_members_held_out(
    configure: Configure,
) -> None:
    members = [fit(configure(*PIXELS, f"head={name}")) for name in ("mlp", "chance")]
    tiny = configure()
    places = (f"runs_dir={tiny.runs_dir}", f"cache_dir={tiny.cache_dir}", "logger=csv")
    listed = "stage.members=[head-pixels-mlp,head-pixels-chance]"
    asked = composed(*TINY_DATA, *places, "stage=ensemble", listed)
    run = fit(asked)
    held = read_run(run.path).held_out
    parts = [read_run(member.path).held_out for member in members]
    assert held is not None and parts[0] is not None and parts[1] is not None
    for place, name in enumerate(held.ids):
        own = [part.probabilities[part.ids == name][0] for part in parts if part]
        assert held.probabilities[place] == pytest.approx(np.mean(own, axis=0), abs=1e-8)
    assert set(held.ids) == set(parts[0].ids)
    assert "mean of 2 members" in result(run)["calibration"]["how"]
    members[1].held_out.unlink()
    other = fit(composed(*TINY_DATA, *places, "stage=ensemble", listed, "overwrite=true"))
    assert "members have held nothing out" in result(other)["calibration"]["how"]
    assert not other.held_out.exists()
