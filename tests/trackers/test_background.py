"""A tracker may be lost in any way: no training waits, one sentence says so."""

import logging
import pickle
import threading
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.trainers import short_trainer
from lightning.pytorch.demos.boring_classes import BoringModel

import hep2.trackers.background
from hep2.trackers.background import Background, OpenRun
from hep2.trackers.loggers import finish, log_images, log_record, log_summary

GREY = np.zeros((4, 4), np.uint8)
CALLS = ("log_metrics", "log_image", "log_table", "log_summary", "finish")


class Spy(OpenRun):
    """Writes down what it is told; in one of its methods it does something else."""

    def __init__(self, bad="", act=None):
        self.told, self.bad, self.act = [], bad, act
        if bad == "start":
            act()

    def _tell(self, name, *said):
        self.told.append((name, *said))
        if name == self.bad:
            self.act()

    def log_metrics(self, metrics, step):
        self._tell("log_metrics", metrics, step)

    def log_image(self, key, image, caption, step):
        self._tell("log_image", key, image.shape, caption, step)

    def log_table(self, key, columns, rows):
        self._tell("log_table", key, columns, rows)

    def log_summary(self, metrics):
        self._tell("log_summary", metrics)

    def finish(self, exit_code):
        self._tell("finish", exit_code)


def fail(error):
    raise error


def record():
    return SimpleNamespace(pictures=[], columns=["id"], rows=[["a"]])


def log_everything(logger):
    logger.log_metrics({"loss": np.float64(0.5)}, 1)
    log_images([logger], "val/rec", [GREY, GREY], ["a", "b"], 1)
    log_summary([logger], {"mca": 0.5, "ece": None})
    log_record([logger], record)
    finish([logger], 0)


def sentences(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_everything_arrives_in_its_order(tmp_path, caplog):
    spy = Spy()
    logger = Background(tmp_path, "It", "it", lambda: spy)
    log_everything(logger)
    assert spy.told == [
        ("log_metrics", {"loss": 0.5}, 1),
        ("log_image", "val/rec", (4, 4), "a", 1),
        ("log_image", "val/rec/1", (4, 4), "b", 1),
        ("log_summary", {"mca": 0.5}),
        ("log_table", "report/predictions", ["id"], [["a"]]),
        ("finish", 0),
    ]
    assert sentences(caplog) == []


def test_a_run_that_logs_nothing_opens_nothing(tmp_path):
    logger = Background(tmp_path, "It", "it", lambda: pytest.fail("opened"))
    logger.finalize("success")
    finish([logger], 1)


@pytest.mark.parametrize("where", ["start", *CALLS])
@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (RuntimeError("of\nthree\nlines"), "RuntimeError: of"),
        (SystemExit(3), "SystemExit: 3"),
        (ModuleNotFoundError("x", name="it.inner"), "it.inner is not installed: pip install it"),
    ],
    ids=["full", "exception", "exit", "missing"],
)
def test_whatever_it_raises_is_one_sentence(where, error, why, tmp_path, caplog):
    logger = Background(tmp_path, "It", "it", partial(Spy, where, partial(fail, error)))
    log_everything(logger)
    assert sentences(caplog) == [f"It is off from here on ({why}); metrics.csv goes on"]


def test_nothing_is_drawn_or_sent_once_it_is_lost(tmp_path, caplog):
    spy = Spy("log_metrics", partial(fail, ValueError("no")))
    logger = Background(tmp_path, "It", "it", lambda: spy)
    logger.log_metrics({"loss": 1.0}, 0)
    logger._thread.join(5)
    log_record([logger], lambda: pytest.fail("drawn"))
    log_everything(logger)
    assert len(spy.told) == 1 and len(sentences(caplog)) == 1


def test_a_record_that_cannot_be_drawn_is_one_sentence(tmp_path, caplog):
    logger = Background(tmp_path, "It", "it", Spy)
    log_record([logger], partial(fail, ValueError("torn")))
    finish([logger], 0)
    assert sentences(caplog) == ["It is off from here on (ValueError: torn); metrics.csv goes on"]


def test_several_trackers_share_one_drawing(tmp_path):
    spies, drawn = [Spy(), Spy()], []

    def draw():
        drawn.append(1)
        return record()

    loggers = [Background(tmp_path, "It", "it", lambda spy=spy: spy) for spy in spies]
    log_record(loggers, draw)
    finish(loggers, 0)
    assert len(drawn) == 1
    assert spies[0].told == spies[1].told != []


@pytest.mark.parametrize("where", ["start", "log_metrics"])
def test_a_training_goes_on_beside_a_tracker_that_hangs(where, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(hep2.trackers.background, "PATIENCE", 0.2)
    released = threading.Event()
    logger = Background(tmp_path, "It", "it", partial(Spy, where, lambda: released.wait(30)))
    trainer = short_trainer([logger], max_epochs=1)
    logger.log_metrics({"loss": 1.0}, 0)
    trainer.fit(BoringModel())
    assert trainer.global_step == 3
    time.sleep(0.3)
    begin = time.monotonic()
    log_everything(logger)
    assert time.monotonic() - begin < 0.2, "not waited for again"
    released.set()
    why = "it has not answered for 0.2 s"
    assert sentences(caplog) == [f"It is off from here on ({why}); metrics.csv goes on"]


def test_an_end_that_hangs_is_left_behind(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(hep2.trackers.background, "PATIENCE", 0.2)
    released = threading.Event()
    logger = Background(tmp_path, "It", "it", partial(Spy, "finish", lambda: released.wait(30)))
    log_everything(logger)
    released.set()
    why = "it did not finish within 0.2 s"
    assert sentences(caplog) == [f"It is off from here on ({why}); metrics.csv goes on"]


def test_no_secret_stands_in_the_sentence(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse")
    error = OSError("http://me:battery@host/?write_token=staple refused 'correct horse'")
    logger = Background(tmp_path, "It", "it", partial(fail, error))
    log_everything(logger)
    (sentence,) = sentences(caplog)
    assert "(OSError: http://***@host/?write_token=*** refused '***')" in sentence


def test_it_travels_to_a_spawned_rank(tmp_path):
    logger = pickle.loads(pickle.dumps(Background(tmp_path, "It", "it", Spy)))
    logger._process = -1  # as seen from the other process
    logger.log_metrics({"loss": 1.0}, 0)
    thread = logger._thread
    logger.finalize("failed")
    assert not thread.is_alive()


def test_only_rank_zero_opens_a_run(tmp_path, monkeypatch):
    from lightning.pytorch.utilities import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", 1)
    log_everything(Background(tmp_path, "It", "it", lambda: pytest.fail("opened")))
