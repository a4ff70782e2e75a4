import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CONF, TINY, TINY_DATA, Configure, Trained, composed
from helpers.results import result
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, recall_score

from hep2.data import fold as fold_module
from hep2.data.fold import Fold, open_fold
from hep2.data.inputs import CachedFeatures, CellImages
from hep2.errors import HEp2Error
from hep2.run import fit
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import run_path
from hep2.tasks.classification import Classification
from hep2.tasks.reconstruction import Reconstruction

STAGES = ("dcae", "head")
TASKS = {"dcae": Reconstruction, "head": Classification}


def both_stages(configure: Configure, *overrides: str) -> RunDir:
    """Trains the encoder, then the head."""
    runs = [fit(configure(*overrides, f"stage={stage}")) for stage in STAGES]
    return runs[1]


def with_encoder(trained: Trained, configure: Configure, stage: str, tmp_path: Path) -> Configure:
    """Configurations of one stage; a head finds the encoder that was trained before."""
    if stage == "head":
        rest = trained.dcae.path.relative_to(trained.runs_dir)
        shutil.copytree(trained.dcae.path, tmp_path / "runs" / rest)
    return lambda *overrides: configure(f"stage={stage}", *overrides)


# --- what a run leaves behind


def test_a_run_leaves_its_files_and_nothing_else(trained: Trained) -> None:
    always = {".lock", "best.ckpt", "last.ckpt", "config.yaml", "metrics.csv", "result.json"}
    made = [{file.name for file in run.path.iterdir()} for run in (trained.dcae, trained.head)]
    assert made[0] == always | {"predictions.csv", "pictures"}
    assert made[1] == always | {"predictions.csv", "held_out.csv"}


def test_the_run_directory_is_a_function_of_the_configuration(trained: Trained) -> None:
    experiment = trained.runs_dir / "default" / "synthetic-specimen"
    assert trained.dcae.path == experiment / "dcae-dcae" / "fold0" / "seed0"
    assert trained.head.path == experiment / "head-dcae-mlp" / "fold0" / "seed0"


def test_the_result_says_what_was_run_on_which_cells(trained: Trained, fold: Fold) -> None:
    found = result(trained.head)
    parts = {"train": fold.split.train, "val": fold.split.val, "test": fold.split.test}
    expected = {
        "stage": "head",
        "method": "dcae-mlp",
        "name": "default",
        "data": "synthetic",
        "synthetic": True,
        "protocol": "specimen",
        "leaky": False,
        "fold": 0,
        "folds": 5,
        "seed": 0,
        "classes": list(fold.cells.classes),
        "cells": {part: len(cells) for part, cells in parts.items()},
        "specimens": {
            part: len(np.unique(fold.cells.specimens[cells])) for part, cells in parts.items()
        },
        "data_key": fold.cells.key,
        "split_hash": fold.split.digest(fold.cells.ids),
        "validation": "",
        "labelled": None,
        "epochs": 6,
    }
    assert {key: found[key] for key in expected} == expected
    assert found["seconds"] > 0
    assert found["versions"]["torch"] == torch.__version__
    others = {"metrics", "recall", "mistakes", "curves", "audit", "seconds", "versions", "kind"}
    others |= {"labels_in_features", "encoder_seconds", "collapsed_encoders"}
    others |= {"full_scale", "notes", "precision", "calibration", "specimen_calls"}
    others |= {"called_against_error"}
    assert set(found) == expected.keys() | others | {"git_commit", "command"}
    of_stage_one = result(trained.dcae)
    assert (of_stage_one["stage"], of_stage_one["method"]) == ("dcae", "dcae")
    assert "recall" not in of_stage_one and of_stage_one["collapsed"] is False


def test_predictions_are_one_row_for_each_test_cell(trained: Trained, fold: Fold) -> None:
    cells, test, classes = fold.cells, fold.split.test, fold.cells.classes
    with trained.head.predictions.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [f"p_{name}" for name in classes]
    assert list(rows[0]) == ["id", "specimen", "target", "output", *names, "novelty"]
    assert [row["id"] for row in rows] == cells.ids[test].tolist()
    assert [row["specimen"] for row in rows] == cells.specimens[test].tolist()
    assert [row["target"] for row in rows] == [classes[label] for label in cells.labels[test]]
    for row in rows:
        shares = np.array([float(row[name]) for name in names])
        assert shares.sum() == pytest.approx(1, abs=1e-7)
        assert row["output"] == classes[shares.argmax()]


def test_the_figures_are_those_of_the_predictions(trained: Trained) -> None:
    rows, found = pd.read_csv(trained.head.predictions), result(trained.head)
    present = sorted(rows.target.unique())
    assert len(present) < 5 and len(rows.output.unique()) > 1  # a fold without a pattern
    recalls = recall_score(rows.target, rows.output, labels=present, average=None, zero_division=0)
    figures = {name.removeprefix("specimen/test/"): v for name, v in found["metrics"].items()}
    assert figures["aca"] == pytest.approx(accuracy_score(rows.target, rows.output))
    assert figures["mca"] == pytest.approx(recalls.mean())
    assert figures["macro_f1"] == pytest.approx(
        f1_score(rows.target, rows.output, average="macro", zero_division=0)
    )
    expected = dict.fromkeys(found["classes"]) | dict(zip(present, recalls, strict=True))
    assert found["recall"] == {name: pytest.approx(value) for name, value in expected.items()}


def test_the_stored_configuration_is_resolved_and_composes_the_same_run(
    trained: Trained, cache_dir: Path
) -> None:
    from omegaconf import OmegaConf

    text = trained.head.config.read_text()
    assert "${" not in text and "???" not in text
    stored = OmegaConf.to_container(OmegaConf.load(trained.head.config))
    again = composed(*TINY, "stage=head", f"runs_dir={trained.runs_dir}", f"cache_dir={cache_dir}")
    assert stored == OmegaConf.to_container(again, resolve=True)


@pytest.mark.parametrize(
    "protocol, prefix", [("published", "published"), ("loso", "loso"), ("random", "random-leaky")]
)
def test_names_of_figures_carry_the_protocol_and_leaky_ones_say_so(
    protocol: str, prefix: str, configure: Configure
) -> None:
    run = both_stages(configure, f"protocol={protocol}", "stage.epochs=1")
    for path in (run.path, Path(str(run.path).replace("head-dcae-mlp", "dcae-dcae"))):
        found = result(RunDir(path))
        assert found["protocol"] == protocol and found["leaky"] is (protocol == "random")
        assert found["metrics"]
        assert all(re.fullmatch(rf"{prefix}/test/\w+", name) for name in found["metrics"])
    header = (run.path / "metrics.csv").read_text().splitlines()[0]
    assert (f"val/{prefix}/mca" in header) == (protocol != "published")  # two specimens a pattern


def test_a_fold_without_validation_says_so_and_takes_the_last_epoch(configure: Configure) -> None:
    run = both_stages(configure, "protocol=published", "stage.epochs=2")
    found = result(run)
    assert "fixed number of epochs" in found["validation"]
    assert found["cells"]["val"] == 0
    states = [torch.load(path, weights_only=True)["state_dict"] for path in (run.last, run.best)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_validation_chooses_the_epoch(trained: Trained) -> None:
    for run in (trained.dcae, trained.head):
        rows = pd.read_csv(run.path / "metrics.csv")
        losses = rows["val/loss"].dropna().to_numpy()
        best = torch.load(run.best, weights_only=True)
        assert len(losses) == 6
        assert best["epoch"] == losses.argmin()
        assert torch.load(run.last, weights_only=True)["epoch"] == 5


def test_pictures_of_reconstructions_are_kept(trained: Trained) -> None:
    import cv2

    pictures = sorted((trained.dcae.path / "pictures").rglob("*.png"))
    assert len(pictures) == 2  # after epochs 5 and 6, the last
    image = cv2.imread(str(pictures[0]), cv2.IMREAD_UNCHANGED)
    assert image.shape[:2] == (3 * 64, 8 * 64)


# --- finished, other configuration, made anew


def copy_of(run: RunDir, trained: Trained, tmp_path: Path) -> RunDir:
    copy = tmp_path / "runs" / run.path.relative_to(trained.runs_dir)
    shutil.copytree(run.path, copy)
    return RunDir(copy)


def snapshot(run: RunDir) -> dict[str, tuple[int, bytes]]:
    files = (file for file in run.path.rglob("[!.]*") if file.is_file())
    return {str(file): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


@pytest.mark.parametrize("stage", STAGES)
def test_a_finished_run_is_left_alone(
    stage: str, trained: Trained, configure: Configure, tmp_path: Path
) -> None:
    run = copy_of(getattr(trained, stage), trained, tmp_path)
    before = snapshot(run)
    again = fit(configure(f"stage={stage}", "data.workers=1", "trainer.devices=2"))
    assert again.path == run.path
    assert snapshot(run) == before


def test_another_configuration_is_refused_with_what_differs(
    trained: Trained, configure: Configure, tmp_path: Path
) -> None:
    run = copy_of(trained.dcae, trained, tmp_path)
    before = snapshot(run)
    with pytest.raises(HEp2Error) as caught:
        fit(configure("stage=dcae", "stage.loss=l1", "protocol.seed=4"))
    assert "(protocol.seed: 0 there, 4 asked; stage.loss: mse there, l1 asked)" in str(caught.value)
    assert str(run.path) in str(caught.value) and "overwrite=true" in str(caught.value)
    assert snapshot(run) == before


def test_overwrite_makes_a_run_anew(trained: Trained, configure: Configure, tmp_path: Path) -> None:
    run = copy_of(trained.dcae, trained, tmp_path)
    fit(configure("stage=dcae", "stage.epochs=2", "stage.loss=l1", "overwrite=true"))
    assert result(run)["epochs"] == 2
    assert torch.load(run.last, weights_only=True)["epoch"] == 1
    assert torch.load(run.best, weights_only=True)["hyper_parameters"]["loss"] == "l1"
    rows = pd.read_csv(run.path / "metrics.csv")
    assert len(rows["val/loss"].dropna()) == 2  # nothing of the six epochs before
    fit(configure("stage=dcae", "stage.epochs=2", "stage.loss=l1"))  # and is the run there now


# --- the same numbers, always


def same_state(one: Path, other: Path) -> None:
    """Weights, buffers, optimiser and schedule are equal bit for bit."""
    contents = [torch.load(path, weights_only=True) for path in (one, other)]
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        assert equal(contents[0][key], contents[1][key]), key


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def same_run(run: RunDir, other: RunDir) -> None:
    same_state(run.last, other.last)
    same_state(run.best, other.best)
    assert result(run)["metrics"] == result(other)["metrics"]
    assert (run.path / "metrics.csv").read_text() == (other.path / "metrics.csv").read_text()
    if other.predictions.exists():
        assert run.predictions.read_bytes() == other.predictions.read_bytes()


def test_the_same_command_gives_the_same_bits(trained: Trained, configure: Configure) -> None:
    torch.manual_seed(99)  # whatever ran before
    head = both_stages(configure)
    same_run(head, trained.head)
    same_run(RunDir(head.path.parents[2] / "dcae-dcae" / "fold0" / "seed0"), trained.dcae)


def test_another_seed_gives_other_weights(trained: Trained, configure: Configure) -> None:
    run = fit(configure("stage=dcae", "seed=1", "stage.epochs=1"))
    weights = [
        torch.load(path, weights_only=True)["state_dict"]["encoder.levels.0.weight"]
        for path in (run.last, trained.dcae.last)
    ]
    assert not torch.equal(*weights)


@pytest.mark.parametrize("stage", STAGES)
def test_worker_processes_change_no_bit(
    stage: str, trained: Trained, configure: Configure, tmp_path: Path
) -> None:
    configured = with_encoder(trained, configure, stage, tmp_path)
    same_run(fit(configured("data.workers=2")), getattr(trained, stage))


class Killed(Exception):
    pass


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("batches", [0.5, 3.0, 3.5])  # in epochs
def test_a_killed_run_goes_on_to_the_same_bits(
    stage: str,
    batches: float,
    trained: Trained,
    configure: Configure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fold: Fold,
) -> None:
    configured = with_encoder(trained, configure, stage, tmp_path)
    left = int(batches * (len(fold.split.train) // 8))
    step = TASKS[stage].training_step

    def dies(self: Any, batch: Any, batch_index: int) -> Any:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        return step(self, batch, batch_index)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(TASKS[stage], "training_step", dies)
        fit(configured())
    cfg = configured()
    torch.manual_seed(99)  # another process has another state
    run = fit(cfg)
    same_run(run, getattr(trained, stage))
    assert result(run)["epochs"] == 6


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_killed_between_training_and_result_is_scored_the_same(
    stage: str, trained: Trained, configure: Configure, tmp_path: Path
) -> None:
    finished: RunDir = getattr(trained, stage)
    configured = with_encoder(trained, configure, stage, tmp_path)
    run = copy_of(finished, trained, tmp_path) if stage == "head" else None
    run = run or copy_of(finished, trained, tmp_path)
    run.result.unlink()
    run.predictions.unlink(missing_ok=True)
    fit(configured())
    same_run(run, finished)
    assert result(run)["epochs"] == 6


# --- who is looked at


def test_training_reads_training_cells_only_and_the_test_comes_last(
    configure: Configure, fold: Fold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[int | None, set[int]]] = []

    def spied(owner: type) -> None:
        gather = owner.gather

        def spy(self: Any, positions: NDArray[np.int64], epoch: int | None) -> Any:
            reads.append((epoch, set(np.asarray(positions).tolist())))
            return gather(self, positions, epoch)

        monkeypatch.setattr(owner, "gather", spy)

    spied(CellImages)
    spied(CachedFeatures)
    split = fold.split
    train, val, test = (set(part.tolist()) for part in (split.train, split.val, split.test))
    both_stages(configure, "callbacks.pictures.every=1", f"cache_dir={tmp_path}/cache")
    learned = [cells for epoch, cells in reads if epoch is not None]
    assert set().union(*learned) == train
    evaluated = [cells for epoch, cells in reads if epoch is None]
    assert set().union(*evaluated) == train | val | test  # stage 2 encodes training cells as well
    last_training = max(n for n, (epoch, _) in enumerate(reads) if epoch is not None)
    first_training = min(n for n, (epoch, _) in enumerate(reads) if epoch is not None)
    first_test = next(n for n, (epoch, cells) in enumerate(reads) if epoch is None and cells & test)
    assert first_training < first_test < last_training
    for epoch, cells in reads[:first_test]:  # all of stage 1 before its test
        assert cells <= (train if epoch is not None else train | val)


def poisoned(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Replaces the images of one part of the fold by noise, and says nothing of it."""
    opened = fold_module.open_cells

    def noisy(*arguments: Any) -> Any:
        from dataclasses import replace

        cells = opened(*arguments)
        images = cells.images.copy()
        where = getattr(clean.split, part)
        images[where] = np.random.default_rng(0).integers(0, 256, images[where].shape)
        return replace(cells, images=images)

    clean = open_fold(composed(*TINY_DATA, f"cache_dir={CLEAN_CACHE[0]}"))
    monkeypatch.setattr(fold_module, "open_cells", noisy)


CLEAN_CACHE: list[Path] = []


@pytest.mark.parametrize("part, changes", [("test", False), ("val", False), ("train", True)])
def test_no_weight_hangs_on_a_pixel_outside_the_training_cells(
    part: str,
    changes: bool,
    trained: Trained,
    configure: Configure,
    cache_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    CLEAN_CACHE[:] = [cache_dir]
    poisoned(monkeypatch, part)
    ours = (f"cache_dir={tmp_path}/cache", f"encoder={trained.dcae.best}")  # of the clean images
    for stage in STAGES:
        run = fit(configure(f"stage={stage}", *ours))
        one, other = (
            torch.load(path, weights_only=True)["state_dict"]
            for path in (run.last, getattr(trained, stage).last)
        )
        learned = [name for name in one if name.startswith(("encoder.", "decoder.", "head."))]
        assert learned
        same = equal({n: one[n] for n in learned}, {n: other[n] for n in learned})
        assert same is not changes


# --- every experiment, every fold


EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs(experiment: str, tmp_path: Path, cache_dir: Path) -> None:
    small = (
        *TINY_DATA,
        f"runs_dir={tmp_path}/runs",
        f"cache_dir={cache_dir}",
        "logger=csv",
        "~callbacks.progress",
        "trainer.enable_progress_bar=false",
        f"experiment={experiment}",
        "debug=fdr",
        "tuning.grid={stage.optimizer.lr:[1e-3]}",  # what is tuned is tuned, with one trial a fold
    )
    cfg = composed(*small)
    for member in ("dcae_plus", "dcae_fisher") if experiment == "ensemble" else ():
        words = [word for word in small if word != "experiment=ensemble"]
        head = composed(*words, f"experiment={member}")
        for stage in head.stage.encoders:
            fit(composed(*words, f"experiment={member}", f"stage={stage}"))
        fit(head)
    for stage, model in cfg.stage.encoders.items():
        fit(composed(*small, f"stage={stage}", f"model={model}"))
    run = fit(cfg)
    assert result(run)["name"] == "debug" and result(run)["metrics"]
    assert len(pd.read_csv(run.predictions)) == result(run)["cells"]["test"]


def test_there_are_experiments() -> None:
    assert "dcae_mlp" in EXPERIMENTS


def test_folds_without_a_pattern_train_and_test(configure: Configure) -> None:
    """Four specimens a pattern, five folds: one fold tests none of it, one lacks several."""
    lacking = []
    for fold in (0, 3):
        run = both_stages(configure, f"fold={fold}", "stage.epochs=1")
        rows, found = pd.read_csv(run.predictions), result(run)
        absent = set(found["classes"]) - set(rows.target)
        lacking.append(absent)
        assert {name for name, value in found["recall"].items() if value is None} == absent
        present = [value for value in found["recall"].values() if value is not None]
        assert found["metrics"]["specimen/test/mca"] == pytest.approx(np.mean(present))
    assert all(lacking)


def test_without_progress_bar(tmp_path: Path, cache_dir: Path) -> None:
    """One setting is enough; the callback that draws the bar need not be dropped as well."""
    small = [word for word in TINY if word != "~callbacks.progress"]
    cfg = composed(*small, f"runs_dir={tmp_path}", f"cache_dir={cache_dir}", "stage.epochs=1")
    assert "progress" in cfg.callbacks and not cfg.trainer.enable_progress_bar
    assert fit(cfg).finished


# --- the encoder of a head


def test_a_head_without_an_encoder_names_the_command(configure: Configure) -> None:
    with pytest.raises(HEp2Error) as caught:
        fit(configure("stage=head", "fold=2", "seed=5", "name=mine"))
    message = str(caught.value)
    assert "needs the encoder of fold 2" in message and "does not exist" in message
    command = "python train.py stage=dcae model=dcae data=synthetic protocol=specimen"
    assert f"train it first: {command} fold=2 seed=5 name=mine" in message


def test_a_damaged_result_of_the_encoder_is_told_before_the_training(
    trained: Trained, configure: Configure, tmp_path: Path
) -> None:
    file = copy_of(trained.dcae, trained, tmp_path).result
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(HEp2Error, match=f"{file} is damaged .* run its command again"):
        fit(configure("stage=head"))
    assert not (run_path(configure("stage=head")) / "metrics.csv").exists()


def test_a_head_refuses_an_unfinished_encoder(
    trained: Trained, configure: Configure, tmp_path: Path
) -> None:
    copy_of(trained.dcae, trained, tmp_path).result.unlink()
    with pytest.raises(HEp2Error, match=r"dcae-dcae.* is not finished; train it first: python tr"):
        fit(configure("stage=head"))


@pytest.mark.parametrize(
    "change, message",
    [
        ("fold=1", "fold is 0, not 1"),
        ("seed=1", "seed is 0, not 1"),
        ("protocol.seed=1", "split is '"),
        ("data.source.seed=1", "data is '"),
        ("protocol=random", "protocol is 'specimen', not 'random'"),
    ],
)
def test_an_encoder_of_another_experiment_is_refused_by_path(
    change: str, message: str, trained: Trained, configure: Configure
) -> None:
    with pytest.raises(HEp2Error, match=re.escape(message)) as caught:
        fit(configure("stage=head", f"encoder={trained.dcae.best}", change))
    assert "train the right one: python train.py stage=dcae" in str(caught.value)


def test_an_encoder_of_this_fold_is_taken_from_anywhere(
    trained: Trained, configure: Configure, tmp_path: Path
) -> None:
    elsewhere = shutil.copy(trained.dcae.best, tmp_path / "mine.ckpt")
    run = fit(configure("stage=head", f"encoder={elsewhere}"))
    found, own = (pd.read_csv(one.predictions, dtype=str) for one in (run, trained.head))
    assert found.equals(own.drop(columns="novelty")), "its run, which knows of errors, is not there"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's, of its own doings
def test_compiled_networks_learn_the_same(configure: Configure) -> None:
    runs = [fit(configure("stage=dcae", f"compile={on}", f"name=c{on}")) for on in (False, True)]
    weights = [torch.load(run.best, weights_only=True)["state_dict"] for run in runs]
    assert weights[0].keys() == weights[1].keys()
    errors = [json.loads(run.result.read_text())["metrics"]["specimen/test/mse"] for run in runs]
    assert errors[0] == pytest.approx(errors[1], rel=0.05)
    assert not torch.equal(*(w["encoder.levels.0.weight"] for w in weights))  # it was compiled
