"""The online probe, and what a finished run shows on a dashboard."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from helpers.made_up_runs import FIVE, write_run
from helpers.trained_runs import NETWORK, OPTIMIZER
from helpers.wandb_runs import records
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score

from hep2.evaluation.report import record_of
from hep2.run import fit
from hep2.stages.callbacks import PENALTY, LinearProbe, ridge_outputs
from hep2.tasks.reconstruction import Reconstruction
from hep2.trackers.loggers import log_record
from hep2.trackers.wandb import WandbRun


@pytest.fixture(autouse=True)
def wandb_ends(monkeypatch):
    """W&B's service names itself in the environment; processes of later tests would look for it."""
    monkeypatch.setenv("WANDB_SERVICE", "")  # what was there before is there again afterwards
    monkeypatch.delenv("WANDB_SERVICE")
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


@pytest.mark.parametrize(("cells", "features"), [(30, 80), (80, 10)])
def test_the_probe_is_scikit_learn_s_ridge(cells, features):
    rng = np.random.default_rng(0)
    train, other = rng.normal(2, 3, (cells, features)), rng.normal(2, 3, (50, features))
    train[:, 0] = other[:, 0] = 7  # a dead latent
    labels = rng.integers(0, 3, cells)
    spread = train.std(axis=0, ddof=1)
    spread[0] = 1
    scaled = [(part - train.mean(axis=0)) / spread for part in (train, other)]
    ridge = Ridge(alpha=PENALTY * features).fit(scaled[0], np.eye(3)[labels])
    expected = ridge.predict(scaled[1]).argmax(axis=1)
    found = ridge_outputs(train, labels, other)
    np.testing.assert_array_equal(found, expected)
    assert len(set(expected)) == 3


class Images:
    """Cells whose bright side is their pattern."""

    key = "image"

    def __init__(self, labels):
        noise = torch.Generator().manual_seed(0)
        self.images = 0.2 * torch.rand(len(labels), 1, 16, 16, generator=noise)
        for image, label in zip(self.images, labels, strict=True):
            image[:, :, 5 * label : 5 * label + 5] += 0.8

    def gather(self, positions, epoch):
        assert epoch is None, "a probe looks at cells as they are"
        return self.images[positions]


class Log:
    def __init__(self):
        self.rows = []

    def log_metrics(self, figures, step):
        self.rows.append((figures, step))


def stage(epoch=4, leaky=False, val=20, rank_zero=True):
    labels = np.arange(60) % 3
    split = SimpleNamespace(train=np.arange(40), val=np.arange(40, 40 + val), leaky=leaky)
    batches = SimpleNamespace(inputs=Images(labels), labels=torch.from_numpy(labels))
    return SimpleNamespace(
        datamodule=SimpleNamespace(split=split, batches=batches),
        current_epoch=epoch,
        max_epochs=30,
        global_step=123,
        is_global_zero=rank_zero,
        loggers=[Log()],
    )


def autoencoder():
    torch.manual_seed(0)
    provenance = {"protocol": "specimen"}
    return Reconstruction("dcae", NETWORK, "mse", OPTIMIZER, provenance).train()


def test_the_probe_logs_the_mca_of_validation_cells_and_touches_nothing():
    trainer, task = stage(), autoencoder()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    state = torch.get_rng_state()
    LinearProbe(every=5, cells=256).on_train_epoch_end(trainer, task)
    ((figures, step),) = trainer.loggers[0].rows
    assert step == 123 and figures["epoch"] == 4
    assert figures["val/specimen/probe_mca"] == 1.0  # easily told
    assert task.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())


def test_the_probe_s_figure_is_the_mean_class_accuracy():
    trainer, task = stage(leaky=True), autoencoder()
    labels = trainer.datamodule.batches.labels
    labels[40:50] = torch.from_numpy(np.random.default_rng(1).integers(0, 3, 10))  # some wrong
    LinearProbe(every=5).on_train_epoch_end(trainer, task)
    ((figures, _),) = trainer.loggers[0].rows
    truth, told = labels[40:].numpy(), np.arange(40, 60) % 3
    assert 0.4 < figures["val/specimen-leaky/probe_mca"] < 1
    expected = balanced_accuracy_score(truth, told)
    assert figures["val/specimen-leaky/probe_mca"] == pytest.approx(expected)


@pytest.mark.parametrize(
    "trainer", [stage(epoch=3), stage(val=0), stage(rank_zero=False)],
    ids=["another epoch", "no validation cells", "another process"],
)  # fmt: skip
def test_the_probe_keeps_still(trainer):
    LinearProbe(every=5).on_train_epoch_end(trainer, autoencoder())
    assert trainer.loggers[0].rows == []


def test_the_probe_keeps_still_where_latents_are_not_finite():
    trainer, task = stage(), autoencoder()
    next(task.encoder.parameters()).data.fill_(torch.nan)
    LinearProbe(every=5).on_train_epoch_end(trainer, task)
    assert trainer.loggers[0].rows == []


def test_the_last_epoch_is_probed():
    trainer = stage(epoch=29)
    LinearProbe(every=7).on_train_epoch_end(trainer, autoencoder())
    assert len(trainer.loggers[0].rows) == 1


def test_an_offline_run_of_stage_one_holds_what_a_dashboard_shows(tmp_path, configure, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    every = ("callbacks.pictures.every=2", "callbacks.probe.every=2", "stage.epochs=3")
    run = fit(configure("stage=dcae", "logger=wandb", *every))
    found = records(run.path)
    (told,) = found["run"]
    assert told["run_group"] == "default-synthetic-specimen-dcae"
    assert told["tags"] == ["synthetic", "specimen", "dcae"]
    items = [entry["item"] for entry in found["history"]]
    captions = [item["reconstructions.captions"][0] for item in items
                if "reconstructions.captions" in item]  # fmt: skip
    assert [caption.split(":")[0] for caption in captions] == ["epoch 2", "epoch 3"]
    probed = [item["epoch"] for item in items if "val/specimen/probe_mca" in item]
    assert probed == [1, 2]
    losses = [item["epoch"] for item in items if "train/loss" in item]
    assert losses == [0, 1, 2]
    result = json.loads(run.result.read_text())
    summary = {}
    for entry in found["summary"]:
        summary |= entry.get("update", {})
    assert {name: summary[name] for name in result["metrics"]} == pytest.approx(result["metrics"])
    shown = {key.split(".")[0] for item in items for key in item if key.startswith("report/")}
    assert shown == {f"report/{name}" for name in
                     ("reconstructions", "latents", "curves", "predictions")}  # fmt: skip


def test_wandb_gets_the_predictions_and_the_report_s_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE")
    run_dir, *_ = write_run(tmp_path / "runs")
    description = {"project": "hep2", "name": "x", "config": {}}
    logger = WandbRun(run_dir, "offline", description)
    log_record([logger], partial(record_of, run_dir))
    logger.finish(0)
    (folder,) = (run_dir / "wandb").glob("offline-run-*")
    items = [entry["item"] for entry in records(run_dir)["history"]]
    shown = {key.split(".")[0]: items[0] for key in items[0] if key.startswith("report/")}
    names = ("matrix", "specimens", "reliability", "called", "predictions")
    assert shown.keys() == {f"report/{name}" for name in names}
    assert "SYNTHETIC" in json.dumps(items[0])
    rows = len((run_dir / "predictions.csv").read_text().splitlines()) - 1
    (table,) = (folder / "files/media/table/report").glob("predictions*.table.json")
    stored = json.loads(table.read_text())
    assert stored["columns"] == ["id", "specimen", "target", "output", *(f"p_{c}" for c in FIVE)]
    assert len(stored["data"]) == rows


def test_a_record_that_nobody_wants_is_not_drawn(tmp_path):
    drawn = []
    tracker = WandbRun(tmp_path, "offline", {"config": {}}, record=False)
    log_record([tracker], lambda: drawn.append(1))
    assert not drawn and tracker._run is None  # nor is W&B started for it


def test_a_run_that_cannot_be_drawn_stops_nothing(tmp_path, caplog):
    run_dir, *_ = write_run(tmp_path / "runs")
    (run_dir / "predictions.csv").write_text("torn")
    logger = WandbRun(run_dir, "offline", {"project": "hep2", "config": {}})
    logger._run = SimpleNamespace(log=lambda _: None, finish=lambda exit_code: None)
    log_record([logger], partial(record_of, run_dir))
    assert "W&B is off from here on (HEp2Error" in caplog.text


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(("target", "expected"), [
    ("dashboard", "leet .cache/dashboard/wandb"),
    ("sync", "sync runs/mine/a/wandb/offline-run-1-x"),
])  # fmt: skip
def test_make_finds_the_offline_runs(tmp_path, target, expected):
    for name in (
        "mine/a/wandb/offline-run-1-x",
        "mine/a/wandb/data",
        "b/wandb/offline-run-2-y",
    ):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs/mine/a/wandb/latest-run").symlink_to("offline-run-1-x")
    tool = tmp_path / "bin" / "wandb"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "$@"\n[ "$1" = leet ] && ls "$2"\nexit 0\n')
    tool.chmod(0o755)
    command = ["make", "--no-print-directory", "-f", ROOT / "Makefile", "-o", "install"]
    command += [target, "NAME=mine", "BIN=bin"]
    environment = {**os.environ, "MAKEFLAGS": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert expected in printed
    if target == "dashboard":
        assert printed[-1] == "offline-run-1-x"
        link = tmp_path / ".cache/dashboard/wandb/offline-run-1-x"
        assert link.resolve() == (tmp_path / "runs/mine/a/wandb/offline-run-1-x").resolve()
