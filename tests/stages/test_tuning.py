"""Settings of networks, chosen on inner folds before the training proper."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CONF, Configure, composed
from helpers.results import result
from omegaconf import OmegaConf

import hep2.stages.tuning as tuning
from hep2.data.fold import Fold, open_fold
from hep2.data.protocols import Split
from hep2.errors import HEp2Error
from hep2.run import fit
from hep2.rundir.directory import RunDir
from hep2.stages.autoencoder import AutoencoderStage
from hep2.stages.callbacks import NotFinite
from hep2.stages.classifier import head
from hep2.stages.training import NetworkStage
from hep2.stages.tuning import Trials

LR = "stage.optimizer.lr"
GRID = f"tuning.grid={{{LR}:[1e-5,1e-2]}}"  # the first learns nothing in so few steps
QUICK = ("stage.epochs=4", "tuning.epochs=0.5", "++stage.tuned=true")


def trials(run: RunDir) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run.tuning.read_text())["trials"]
    return rows


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture
def tiny(configure: Configure, where: Path) -> Configure:
    return lambda *words: configure(*QUICK, f"runs_dir={where}", *words)


@pytest.fixture
def encoder(tiny: Configure) -> RunDir:
    """An autoencoder whose learning rate was chosen; the later tests read it."""
    return fit(tiny("stage=dcae", GRID))


# --- the choice


def test_the_best_mean_over_the_inner_folds_is_chosen(encoder: RunDir) -> None:
    rows = trials(encoder)
    assert [(row["settings"][LR], row["fold"]) for row in rows] == [
        (1e-5, 0), (1e-5, 1), (1e-2, 0), (1e-2, 1),
    ]  # fmt: skip
    means = [np.mean([row["figure"] for row in rows[start : start + 2]]) for start in (0, 2)]
    assert means[0] < means[1] < 0, "negative reconstruction errors"
    assert result(encoder)["chosen"] == {LR: 1e-2, "inner_figure": pytest.approx(means[1])}
    assert not list(encoder.path.glob("trial*")), "trials leave nothing behind"


@pytest.mark.parametrize("stage", ["head", "cnn"])
def test_a_tuned_run_is_the_run_of_the_settings_that_were_chosen(
    stage: str, encoder: RunDir, tiny: Configure
) -> None:
    words = (f"stage={stage}", f"encoder={encoder.best}")
    tuned = fit(tiny(*words, GRID))
    chosen = result(tuned)["chosen"]
    plain = fit(tiny(*words, "name=plain", f"{LR}={chosen[LR]}"))
    assert tuned.predictions.read_bytes() == plain.predictions.read_bytes()
    assert "chosen" not in result(plain)
    assert 0 <= chosen["inner_figure"] <= 1, "an MCA"


def test_an_autoencoder_s_too(encoder: RunDir, tiny: Configure) -> None:
    plain = fit(tiny("stage=dcae", "name=plain", f"{LR}=1e-2"))
    assert encoder.predictions.read_bytes() == plain.predictions.read_bytes()


def test_trials_see_training_cells_alone_and_hold_out_whole_specimens(
    tiny: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Split, int]] = []

    def look(stage: NetworkStage, loggers: Any) -> None:
        seen.append((stage.fold.split, stage.cfg.trainer.max_epochs))

    cfg = tiny("stage=dcae", GRID, "stage.epochs=10", "tuning.epochs=0.25", "name=looked")
    fold = open_fold(cfg)
    monkeypatch.setattr(NetworkStage, "train", look)
    tuning.tuned(AutoencoderStage(cfg, fold, RunDir(Path(cfg.runs_dir) / "looked")))
    assert len(seen) == 4
    names = fold.cells.specimens
    for split, epochs in seen:
        assert epochs == 2
        assert not set(names[split.train]) & set(names[split.test])
        together = np.sort(np.concatenate([split.train, split.test]))
        assert np.array_equal(together, fold.split.train)
        assert not len(split.val)


def test_latents_of_cells_that_are_held_out_are_those_of_training(
    encoder: RunDir, tiny: Configure
) -> None:
    cfg = tiny("stage=head", f"encoder={encoder.best}", "name=latents")
    fold = open_fold(cfg)
    stage: Any = head(cfg, fold, RunDir(Path(cfg.runs_dir) / "latents"))
    cells = fold.split.train[3:9]
    split = replace(fold.split, test=cells)
    inner = stage.variant(cfg, replace(fold, split=split), stage.run)
    (batch,) = inner.datamodule.test_dataloader()
    assert np.array_equal(batch["features"].numpy(), stage.inputs.of(cells))


# --- what can go wrong


def test_an_interrupted_tuning_repeats_no_trial(
    encoder: RunDir, tiny: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = tuning._tried
    calls: list[float] = []

    def dies_in_the_third(stage: Any, settings: Any, *others: Any) -> float:
        calls.append(settings[LR])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return tried(stage, settings, *others)

    monkeypatch.setattr(tuning, "_tried", dies_in_the_third)
    cfg = tiny("stage=dcae", GRID, "name=interrupted")
    with pytest.raises(KeyboardInterrupt):
        fit(cfg)
    run = fit(cfg)
    assert calls == [1e-5, 1e-5, 1e-2, 1e-2, 1e-2]
    assert trials(run) == trials(encoder)
    assert run.predictions.read_bytes() == encoder.predictions.read_bytes()


def test_settings_that_cannot_be_trained_lose(
    tiny: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def figure(stage: Any, settings: Any, *others: Any) -> float:
        return -math.inf if settings[LR] == 1e-5 else -0.5

    cfg = tiny("stage=dcae", GRID, "name=infinite")
    run = RunDir(Path(cfg.runs_dir) / "infinite")
    stage = AutoencoderStage(cfg, open_fold(cfg), run)
    monkeypatch.setattr(tuning, "_tried", figure)
    chosen, said = tuning.tuned(stage)
    assert chosen.cfg.stage.optimizer.lr == 1e-2
    assert said == {"chosen": {LR: 1e-2, "inner_figure": -0.5}}
    assert [row["figure"] for row in trials(run)] == [None, None, -0.5, -0.5]
    assert tuning.tuned(stage)[1] == said, "null is read back"
    monkeypatch.setattr(tuning, "_tried", lambda *_: -math.inf)
    run.tuning.unlink()
    with pytest.raises(HEp2Error, match=f"not finite with any setting.*{LR}"):
        tuning.tuned(stage)


def test_a_loss_that_is_no_number_is_such_a_setting(
    tiny: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = tiny("stage=dcae", GRID, "name=nan")
    stage = AutoencoderStage(cfg, open_fold(cfg), RunDir(Path(cfg.runs_dir) / "nan"))

    def diverges(stage: NetworkStage, loggers: Any) -> None:
        raise NotFinite("the loss is nan")

    monkeypatch.setattr(NetworkStage, "train", diverges)
    rows = np.arange(4)
    assert tuning._tried(stage, {LR: 1.0}, rows, rows, stage.run) == -math.inf


def test_without_inner_folds_the_first_setting_is_taken(tiny: Configure, fold: Fold) -> None:
    cfg = tiny("stage=dcae", GRID, "name=alone")
    names = np.full(len(fold.cells.ids), "one")
    alone = replace(fold, cells=replace(fold.cells, specimens=names))
    stage, said = tuning.tuned(AutoencoderStage(cfg, alone, RunDir(Path(cfg.runs_dir) / "alone")))
    assert said == {"chosen": {LR: 1e-5, "inner_figure": None}}
    assert stage.cfg.stage.optimizer.lr == 1e-5


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"configuration": {}, "trials": [{}]}', "[" * 100_000, "\0", "NOTED NaN"],
)
def test_a_damaged_record_is_forgotten(content: str, tiny: Configure, tmp_path: Path) -> None:
    cfg, run = tiny("stage=dcae", GRID), RunDir(tmp_path)
    noted = Trials(run, cfg)
    noted.note({LR: 1e-2}, 0, -0.25)
    assert Trials(run, cfg).score({LR: 1e-2}, 0) == -0.25
    if content.startswith("NOTED"):
        content = run.tuning.read_text().replace("-0.25", content.split()[1])
    run.tuning.write_text(content)
    assert Trials(run, cfg).score({LR: 1e-2}, 0) is None


def test_figures_of_another_configuration_are_forgotten(tiny: Configure, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    Trials(run, tiny("stage=dcae", GRID)).note({LR: 1e-2}, 0, -0.25)
    assert Trials(run, tiny("stage=dcae", GRID, "cache_dir=x")).score({LR: 1e-2}, 0) == -0.25
    other = Trials(run, tiny("stage=dcae", GRID, "stage.batch_size=4"))
    assert other.score({LR: 1e-2}, 0) is None


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("{stage.optimizer.rate:[1]}", "there is no setting stage.optimizer.rate"),
        ("{stage.optimizer.lr:1e-3}", "must be a list"),
        ("{stage.optimizer.lr:[]}", "must be a list"),
        ("{features.orientations:[1,8]}", "features.orientations cannot be tuned"),
        ("3", "tuning.grid=3 must name settings"),
        ("[1,2]", "must name settings"),
    ],
)
def test_a_faulty_grid_is_refused(grid: str, message: str, tiny: Configure) -> None:
    with pytest.raises(HEp2Error, match=message):
        fit(tiny("stage=dcae", f"tuning.grid={grid}", "name=faulty"))


@pytest.mark.parametrize(
    "word", ["folds=x", "folds=1", "folds=2.5", "epochs=x", "epochs=0", "epochs=-1", "epochs=1.5"]
)
def test_faulty_settings_of_the_trials_are_refused(word: str, tiny: Configure) -> None:
    with pytest.raises(HEp2Error, match=f"tuning.{word} must be"):
        fit(tiny("stage=dcae", GRID, f"tuning.{word}", "name=faulty"))


def test_a_grid_is_tried_in_its_order() -> None:
    found = tuning.candidates({"stage.epochs": [1, 2], "head.dropout": [0.1, 0.2]})
    pairs = [(1, 0.1), (1, 0.2), (2, 0.1), (2, 0.2)]
    assert found == [{"stage.epochs": first, "head.dropout": second} for first, second in pairs]
    cfg = OmegaConf.create({"a": 0, "b": {"c": 0}})
    assert tuning.with_settings(cfg, {"b.c": 5}) == {"a": 0, "b": {"c": 5}}
    assert cfg == {"a": 0, "b": {"c": 0}}
    nothing = OmegaConf.create({"clip": None})
    assert tuning.with_settings(nothing, {"clip": 0.5}) == {"clip": 0.5}
    with pytest.raises(HEp2Error, match="there is no setting d"):
        tuning.with_settings(cfg, {"d": 1})


# --- experiments


EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_method_that_learns_states_the_grid_it_is_tuned_with(experiment: str) -> None:
    """Except what has nothing to choose, and the protocol's own experiment."""
    fixed = (
        "cnn",
        "cnn_plus",
        "dcae_mlp",
        "dcae_plus",
        "dcae_fisher",
        "dcae_joined",
        "ensemble",
        "label_efficiency",
        "lenet",
    )
    cfg = composed(f"experiment={experiment}")
    if experiment in ("chance", "codebook_nch", "leak_gap", *fixed):
        assert cfg.tuning.grid is None
        return
    estimator = cfg.head.get("estimator", {}) if cfg.stage.task == "head" else {}
    candidates = [*(cfg.tuning.grid or {}).values(), *estimator.values()]
    assert any(OmegaConf.is_list(values) and len(values) > 1 for values in candidates)
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    assert (
        re.search(r"override /tuning: (lr|two_rates)\n", text) or estimator
    )  # a head brings its own grid
