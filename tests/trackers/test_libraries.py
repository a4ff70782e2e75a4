"""The same run in each tracker's real library, read back with that library."""

import json
import os
import socket
import sys
import threading
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import composed
from helpers.made_up_runs import write_run
from hydra.utils import instantiate

from hep2.evaluation.report import record_of
from hep2.rundir.layout import Identity
from hep2.trackers.background import Background
from hep2.trackers.loggers import (
    RunFiles,
    finish,
    log_images,
    log_record,
    log_summary,
    make_loggers,
)
from hep2.trackers.mlflow import UNLESS_SET, MlflowSettings
from hep2.trackers.tensorboard import TensorBoardSettings
from hep2.trackers.trackio import TrackioSettings
from hep2.trackers.wandb import WandbRun

pytestmark = pytest.mark.filterwarnings("ignore")  # what the libraries think of each other

TABLE = "report/predictions.json"
TOKEN = "a token of 24 characters"
CONFIG = {"fold": 3, "model": {"name": "dcae", "empty": {}}, "note": f"by {TOKEN}", "a(b)": [1]}
SETTINGS = {
    "mlflow": MlflowSettings,
    "tensorboard": TensorBoardSettings,
    "trackio": TrackioSettings,
}


def identity(fold=3):
    return Identity("default", "head", "dcae-mlp", "i3a", "random", True, False, fold, 7)


@pytest.fixture(autouse=True)
def nobody_s_settings(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "TRACKIO_", "HF_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, value in UNLESS_SET.items():
        monkeypatch.setenv(name, value)  # ours are put back as well
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """One for all tests: MLflow takes seconds to make its tables, Trackio chooses but once."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def run_dir(tmp_path):
    """A finished run, to be drawn."""
    path, *_ = write_run(tmp_path / "runs", fold=3)
    return path


def needed(library):
    """As `pytest.importorskip`, but Trackio is told where to write before it is imported."""
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def settings(library, store, tags=("mine",)):
    needed(library)
    where = {} if library == "tensorboard" else {"folder": str(store / library)}
    return SETTINGS[library](tags=tags, **where)


def one_run(library, store, run_dir, whose=None, steps=(0, 1), exit_code=0, record=False):
    entry = settings(library, store)
    loggers = make_loggers({library: entry}, run_dir, whose or identity(), CONFIG)
    for step in steps:
        for logger in loggers:
            logger.log_metrics({"train/loss": 1 / (step + 1), "recall/µ(x)": 1.0}, step)
    log_images(loggers, "reconstructions", [np.full((4, 5), 9, np.uint8)], ["a cell"], steps[-1])
    log_summary(loggers, {"random-leaky/test/mca": 0.5, "random-leaky/test/ece": None})
    if record:
        log_record(loggers, partial(record_of, run_dir))
    finish(loggers, exit_code)


def told(caplog):
    return [r.getMessage() for r in caplog.records if r.name.startswith("hep2")]


def mlflow_runs(store):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}/mlflow/mlflow.db")
    found = client.get_experiment_by_name("hep2")
    return client, client.search_runs([found.experiment_id], order_by=["start_time"])


def test_mlflow_holds_the_run(store, run_dir, caplog, monkeypatch, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    one_run("mlflow", store, run_dir, identity(fold=4), record=True)
    assert told(caplog) == [] and capfd.readouterr() == ("", "")
    client, runs = mlflow_runs(store)
    run = runs[-1]
    assert (run.info.run_name, run.info.status) == ("dcae-mlp-fold4-seed7", "FINISHED")
    assert run.info.run_id == (run_dir / "mlflow" / "run-id").read_text()
    tags = run.data.tags
    assert tags["group"] == "default-i3a-random-dcae-mlp" and tags["stage"] == "head"
    assert tags["tags"] == "i3a, random, dcae-mlp, mine, leaky"
    params = {"fold": "3", "model.name": "dcae", "model.empty": "{}", "note": "by ***"}
    assert run.data.params == params | {"a_b_": "[1]"}
    assert run.data.metrics == {
        "train/loss": 0.5, "recall/µ_x_": 1.0, "random-leaky/test/mca": 0.5
    }  # fmt: skip
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5)]
    files = {file.path for file in client.list_artifacts(run.info.run_id, "report")}
    kinds = ("matrix", "specimens", "reliability", "called")
    assert files == {f"report/{kind}.png" for kind in kinds} | {TABLE}
    (image, _) = client.list_artifacts(run.info.run_id, "images")
    assert image.path.startswith("images/reconstructions+step+1+")
    assert "**report/matrix**: SYNTHETIC" in tags["mlflow.note.content"]
    table = json.loads(Path(client.download_artifacts(run.info.run_id, TABLE)).read_text())
    lines = (run_dir / "predictions.csv").read_text().splitlines()
    assert table["columns"] == lines[0].split(",")
    assert table["data"] == [line.split(",") for line in lines[1:]]
    assert TOKEN.encode() not in (store / "mlflow" / "mlflow.db").read_bytes()
    assert "MLFLOW_TRACKING_URI" not in os.environ, "later runs have stores of their own"


def test_trackio_holds_the_run(store, run_dir, caplog, monkeypatch, capfd):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    one_run("trackio", store, run_dir, identity(fold=4), record=True)
    assert told(caplog) == [] and capfd.readouterr() == ("", "")
    assert "TRACKIO_DIR" not in os.environ
    run, rows = trackio_run(run_dir, fold=4)
    assert run.config["_Group"] == "default-i3a-random-dcae-mlp"
    expected = {"stage": "head", "tags": "i3a, random, dcae-mlp, mine, leaky", "fold": 3,
                "model.name": "dcae", "note": "by ***", "a(b)": [1]}  # fmt: skip
    assert expected.items() <= run.config.items()
    assert [(r["step"], r["train/loss"]) for r in rows if "train/loss" in r] == [(0, 1), (1, 0.5)]
    shown = {key: value for row in rows for key, value in row.items()}
    assert shown["random-leaky/test/mca"] == 0.5 and "random-leaky/test/ece" not in shown
    assert shown["reconstructions"]["caption"] == "a cell"
    assert shown["report/matrix"]["caption"].startswith("SYNTHETIC")
    picture = store / "trackio" / "media" / shown["report/matrix"]["file_path"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    lines = len((run_dir / "predictions.csv").read_text().splitlines())
    assert len(shown["report/predictions"]["_value"]) == lines - 1
    assert not [file for file in (store / "trackio").rglob("*") if file.is_file()
                if TOKEN.encode() in file.read_bytes()]  # fmt: skip


def trackio_run(run_dir, fold):
    """The run of a run directory and its rows."""
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    name = f"dcae-mlp-fold{fold}-seed7-{(run_dir / 'trackio' / 'run-id').read_text()}"
    (run,) = (run for run in trackio.Api().runs("hep2") if run.name == name)
    return run, SQLiteStorage.get_logs("hep2", name, run_id=run.id)


def test_tensorboard_holds_the_run(store, run_dir, caplog, monkeypatch, capfd):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    one_run("tensorboard", store, run_dir, record=True)
    assert told(caplog) == [] and capfd.readouterr() == ("", "")
    events = tensorboard_events(run_dir)
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(0, 1.0), (1, 0.5)]
    assert [e.value for e in events.Scalars("random-leaky/test/mca")] == [0.5]
    kinds = {f"report/{kind}" for kind in ("matrix", "specimens", "reliability", "called")}
    assert set(events.Tags()["images"]) == kinds | {"reconstructions"}
    texts = {tag: events.Tensors(tag)[0] for tag in events.Tags()["tensors"]}
    assert b"SYNTHETIC" in texts["report/matrix/text_summary"].tensor_proto.string_val[0]
    settings = (run_dir / "tensorboard" / "hparams.yaml").read_text()
    assert "by ***" in settings
    assert not [file for file in (run_dir / "tensorboard").iterdir()
                if TOKEN.encode() in file.read_bytes()]  # fmt: skip


def tensorboard_events(run_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0}).Reload()


def runs_in(library, store, run_dir):
    """IDs of the runs that a run directory has, or had, and the steps of each."""
    if library == "tensorboard":
        return [[e.step for e in tensorboard_events(run_dir).Scalars("train/loss")]]
    if library == "mlflow":
        client, runs = mlflow_runs(store)
        histories = [client.get_metric_history(run.info.run_id, "train/loss") for run in runs]
        return [sorted({point.step for point in points}) for points in histories]
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    rows = [SQLiteStorage.get_logs("hep2", r.name, run_id=r.id) for r in trackio.Api().runs("hep2")]
    return [sorted({row["step"] for row in one if "train/loss" in row}) for one in rows]


@pytest.mark.parametrize("library", SETTINGS)
def test_a_resumed_run_goes_on_and_a_new_one_does_not(library, store, run_dir, monkeypatch, caplog):
    monkeypatch.setenv("HEP2_IN_SWEEP", "1")
    monkeypatch.setenv("MLFLOW_RUN_ID", "theirs")  # all jobs of the sweep would be one run
    once = 1000 * (1 + list(SETTINGS).index(library))
    one_run(library, store, run_dir, steps=(once, once + 1), exit_code=1)
    (run_dir / "last.ckpt").touch()
    one_run(library, store, run_dir, steps=(once + 1, once + 2))
    assert [once, once + 1, once + 2] in runs_in(library, store, run_dir)
    (run_dir / "last.ckpt").unlink()
    one_run(library, store, run_dir, steps=(once + 5,))
    assert [once + 5] in runs_in(library, store, run_dir)
    if library == "mlflow":
        assert [run.info.status for run in mlflow_runs(store)[1]][-2:] == ["FINISHED"] * 2
    assert told(caplog) == []


def test_a_single_run_goes_by_the_environment_s_id_and_experiment(store, run_dir, monkeypatch):
    needed("mlflow")
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    one_run("mlflow", store, run_dir, steps=(0,))
    client = MlflowClient(f"sqlite:///{store}/mlflow/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("theirs").experiment_id])
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    one_run("mlflow", store, run_dir, steps=(77,))
    assert client.get_metric_history(run.info.run_id, "train/loss")[-1].step == 77


@pytest.mark.parametrize("library", SETTINGS)
def test_a_missing_library_is_one_sentence(library, store, run_dir, monkeypatch, caplog):
    entry = settings(library, store)
    monkeypatch.setitem(sys.modules, library, None)
    loggers = make_loggers({library: entry}, run_dir, identity(), CONFIG)
    loggers[1].log_metrics({"train/loss": 1.0}, 0)
    finish(loggers, 0)
    (sentence,) = told(caplog)
    assert f"({library} is not installed: pip install {library});" in sentence


@pytest.mark.parametrize("library", ["mlflow", "tensorboard"])
def test_a_folder_that_cannot_be_written_is_one_sentence(library, run_dir, tmp_path, caplog):
    blocked = run_dir / "tensorboard" if library == "tensorboard" else tmp_path / "mlflow"
    blocked.write_text("a file")
    one_run(library, tmp_path, run_dir)
    (sentence,) = told(caplog)
    assert "is off from here on (" in sentence and blocked.name in sentence
    assert len((run_dir / "metrics.csv").read_text().splitlines()) == 3


def test_a_store_that_trackio_cannot_write_is_one_sentence(store, run_dir, caplog):
    entry = settings("trackio", store)
    (store / "trackio" / "spoilt.db").parent.mkdir(parents=True, exist_ok=True)
    (store / "trackio" / "spoilt.db").write_bytes(b"not a data base at all" * 100)
    spoilt = TrackioSettings(project="spoilt", folder=entry.folder)
    loggers = make_loggers({"trackio": spoilt}, run_dir, identity(), CONFIG)
    for step in range(3):
        loggers[1].log_metrics({"train/loss": 1.0}, step)
    finish(loggers, 0)
    (sentence,) = told(caplog)
    assert "not a database" in sentence


def test_an_mlflow_server_that_is_gone_is_one_sentence(run_dir, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:battery@127.0.0.1:{port}")
    one_run("mlflow", tmp_path, run_dir)
    (sentence,) = told(caplog)
    assert sentence.startswith("MLflow is off from here on (MlflowException: ")
    assert "battery" not in sentence


def test_a_command_line_chooses_several(run_dir, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    cfg = composed("logger=[wandb,mlflow,trackio,tensorboard]", "runs_dir=elsewhere")
    entries = instantiate(cfg.logger, _convert_="all")
    assert entries["mlflow"] == MlflowSettings("hep2", "elsewhere/mlflow", None, [])
    assert entries["trackio"] == TrackioSettings("hep2", "elsewhere/trackio", None, None, [])
    loggers = make_loggers(entries, run_dir, identity(), CONFIG)
    assert [type(logger) for logger in loggers] == [RunFiles, WandbRun, *[Background] * 3]


@pytest.mark.parametrize("whose", ["tensorboard.", "other."])
def test_only_the_writer_of_tensorboard_dies_in_silence(whose, store, run_dir, monkeypatch):
    needed("tensorboard")
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda failed: seen.append(failed.exc_value))
    one_run("tensorboard", store, run_dir)
    kind = type("Writer", (threading.Thread,), {"__module__": f"{whose}writer"})
    thread = kind(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    assert len(seen) == (whose == "other.")
