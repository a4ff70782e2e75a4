import logging
import math
import os
import pickle
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from helpers.results import rows_of
from helpers.trainers import short_trainer
from helpers.wandb_runs import records
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning.pytorch import LightningModule
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers.logger import DummyLogger, Logger

import hep2.trackers.wandb
from hep2.errors import HEp2Error
from hep2.rundir.layout import Identity
from hep2.trackers.loggers import (
    RunFiles,
    describe,
    finish,
    log_images,
    log_summary,
    make_loggers,
)
from hep2.trackers.wandb import WandbRun, WandbSettings, choose_mode

FAKE_KEY = "0123456789abcdef" * 2 + "fedcba98"
IDENTITY = Identity(
    name="default",
    stage="head",
    method="dcae-mlp",
    data="i3a",
    protocol="random",
    leaky=True,
    synthetic=False,
    fold=3,
    seed=7,
)
WANDB = {"wandb": WandbSettings()}


@pytest.fixture(autouse=True)
def nobody_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A home without any W&B login, an environment without any W&B variable."""
    for name in list(os.environ):
        if name.startswith("WANDB_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "fold3"
    path.mkdir(parents=True)
    return path


def rows(run_dir: Path) -> list[dict[str, str]]:
    return rows_of(run_dir / "metrics.csv")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("hep2")]


def log_step(loggers: list[Logger], step: int) -> None:
    for logger in loggers:
        logger.log_metrics({"loss": 1 / (step + 1)}, step)


# ---- the files of record


def test_csv_survives_a_resume_and_new_columns(run_dir: Path) -> None:
    first = RunFiles(run_dir)
    first.log_metrics({"epoch": 0, "train/loss": torch.tensor(0.5)}, 9)
    first.log_metrics({"epoch": 0, "published/val/mca": np.float64(0.25)}, 9)
    first.log_metrics({"epoch": 1, "train/loss": 0.4}, 19)

    resumed = RunFiles(run_dir)
    resumed.log_metrics({"epoch": 1, "train/loss": 0.4}, 19)  # repeated after the last checkpoint
    resumed.log_metrics({"epoch": 2, "train/loss": math.nan}, 29)
    resumed.log_metrics({"epoch": 1, "train/loss": 0.3}, 19)
    resumed.log_metrics({"published/test/mca": 1.0}, 29)

    names = ["step", "epoch", "train/loss", "published/val/mca", "published/test/mca"]
    assert [list(row.values()) for row in rows(run_dir)] == [
        ["9", "0", "0.5", "", ""],
        ["9", "0", "", "0.25", ""],
        ["19", "1", "0.3", "", ""],
        ["29", "2", "nan", "", ""],
        ["29", "", "", "", "1.0"],
    ]
    assert list(rows(run_dir)[0]) == names


def test_csv_drops_only_a_torn_last_row(run_dir: Path) -> None:
    RunFiles(run_dir).log_metrics({"loss": 0.5}, 0)
    with (run_dir / "metrics.csv").open("a") as file:
        file.write("1,0.1")  # "1,0.125\n" cut off by a kill
    RunFiles(run_dir).log_metrics({"loss": 0.25}, 2)
    assert rows(run_dir) == [{"step": "0", "loss": "0.5"}, {"step": "2", "loss": "0.25"}]


def test_a_run_without_a_checkpoint_starts_its_files_anew(run_dir: Path) -> None:
    log_step(make_loggers({}, run_dir, IDENTITY, {}), 5)
    (run_dir / "last.ckpt").touch()
    log_step(make_loggers({}, run_dir, IDENTITY, {}), 6)
    assert [row["step"] for row in rows(run_dir)] == ["5", "6"]
    (run_dir / "last.ckpt").unlink()
    log_step(make_loggers({}, run_dir, IDENTITY, {}), 0)
    assert [row["step"] for row in rows(run_dir)] == ["0"]


def test_csv_that_cannot_be_written_is_named(run_dir: Path) -> None:
    logger = RunFiles(run_dir)
    logger.log_metrics({"loss": 1.0}, 0)
    (run_dir / "metrics.csv").unlink()
    (run_dir / "metrics.csv").mkdir()
    with pytest.raises(HEp2Error, match=r"cannot write .*metrics\.csv: Is a directory"):
        logger.log_metrics({"loss": 1.0}, 1)


def test_pictures_are_written_with_their_captions(run_dir: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    loggers = [DummyLogger(), *make_loggers({}, run_dir, IDENTITY, {})]
    log_images(loggers, "val/reconstruction", [grey, red], ["cell 1", "µ"], 40)
    files = sorted((run_dir / "pictures").iterdir())
    assert [file.name for file in files] == [
        "val-reconstruction-step000040-0.png",
        "val-reconstruction-step000040-1.png",
    ]
    assert np.array_equal(cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED), grey)
    assert np.array_equal(cv2.imread(str(files[1]))[..., ::-1], red)
    assert "µ".encode() in files[1].read_bytes()


class Failing(BoringModel):
    """Stops in its second epoch, as a kill would."""

    stop = False

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> dict:
        if self.stop and self.current_epoch == 1 and batch_idx == 1:
            raise RuntimeError("power cut")
        output = super().training_step(batch, batch_idx)
        self.log("train/loss", output["loss"])
        return output


def fit(run_dir: Path, model: LightningModule, **options: object) -> None:
    loggers = make_loggers({}, run_dir, IDENTITY, {})
    trainer = short_trainer(loggers, max_epochs=2)
    trainer.fit(model, **options)
    trainer.save_checkpoint(run_dir / "last.ckpt")


def test_trainer_goes_on_with_the_csv_after_an_interruption(run_dir: Path) -> None:
    class SaveEpoch(Failing):
        def on_train_epoch_end(self) -> None:
            self.trainer.save_checkpoint(run_dir / "last.ckpt")

    model = SaveEpoch()
    model.stop = True
    with pytest.raises(RuntimeError, match="power cut"):
        fit(run_dir, model)
    before = rows(run_dir)
    assert [row["step"] for row in before] == ["0", "1", "2", "3"]
    fit(run_dir, SaveEpoch(), ckpt_path=run_dir / "last.ckpt", weights_only=True)
    after = rows(run_dir)
    assert [row["step"] for row in after] == ["0", "1", "2", "3", "4", "5"]
    assert after[:3] == before[:3]


# ---- the mode


def test_the_environment_s_mode_wins_and_an_unknown_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for mode in ("auto", "online", "offline", "disabled"):
        assert choose_mode(mode) == mode
    with pytest.raises(HEp2Error, match="choose auto, online, offline or disabled"):
        choose_mode("of")
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert choose_mode("online") == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert choose_mode("auto") == "disabled"


@pytest.mark.parametrize("mode", ["auto", "online"])
@pytest.mark.parametrize("where", ["variable", "netrc", "settings"])
def test_a_run_is_online_with_a_key(
    where: str,
    mode: str,
    run_dir: Path,
    tmp_path: Path,
    told: list[dict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = tmp_path / "home" / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True)
    settings.write_text("[default]\nbase_url = http://127.0.0.1:1\n")
    open_run(run_dir, mode)
    assert told[-1]["mode"] == "offline"
    sys.modules["wandb"].teardown()  # as a process of its own would see it
    if where == "variable":
        monkeypatch.setenv("WANDB_API_KEY", FAKE_KEY)
    elif where == "netrc":
        (tmp_path / "home" / ".netrc").write_text(
            f"machine 127.0.0.1:1\n  login user\n  password {FAKE_KEY}\n"
        )
    else:
        settings.write_text(settings.read_text() + f"api_key = {FAKE_KEY}\n")
    open_run(run_dir, mode)
    assert told[-1]["mode"] == "online"
    assert told[-1]["settings"].init_timeout == {"auto": 5, "online": 15}[mode]


@pytest.mark.parametrize("through", ["server", "proxy"])
def test_an_online_start_that_fails_within_its_time_starts_offline(
    through: str,
    run_dir: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """W&B itself, and a server that takes connections and never answers."""
    caplog.set_level(logging.INFO, "hep2")
    monkeypatch.setattr(hep2.trackers.wandb, "START_SECONDS", {"auto": 1.0})
    monkeypatch.setenv("WANDB_API_KEY", FAKE_KEY)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        if through == "proxy":
            monkeypatch.setenv("http_proxy", address)
            monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.invalid")
        else:
            monkeypatch.setenv("WANDB_BASE_URL", address)
        loggers = make_loggers(WANDB, run_dir, IDENTITY, {})
        begin = time.monotonic()
        log_step(loggers, 0)
        assert time.monotonic() - begin < 10
        finish(loggers, 0)
    (message,) = said(caplog)
    assert message.startswith("W&B runs offline (CommError: ")
    (run,) = records(run_dir)["run"]
    assert run["run_id"] == (run_dir / "wandb" / "run-id").read_text()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("no")])
def test_whatever_stops_an_online_start_an_offline_one_is_tried(
    error: Exception, run_dir: Path, told: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    offline = wandb.init

    def init(**options: object) -> object:
        if options["mode"] == "online":
            raise error
        return offline(**options)

    monkeypatch.setattr("wandb.init", init)
    monkeypatch.setenv("WANDB_API_KEY", FAKE_KEY)
    open_run(run_dir)
    assert [(call["mode"], call["exit_code"]) for call in told] == [("offline", 0)]


# ---- the W&B run


def test_an_offline_run_holds_what_was_logged_and_stays_in_its_directory(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", FAKE_KEY)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    config = {"fold": 3, "model": {"name": "dcae"}, "note": f"key {FAKE_KEY}", "sizes": [1, None]}
    loggers = make_loggers({"wandb": WandbSettings(tags=["mine"])}, run_dir, IDENTITY, config)
    log_step(loggers, 0)
    log_step(loggers, 1)
    log_images(loggers, "val/rec", [np.zeros((4, 4), np.uint8)], ["a cell"], 1)
    import wandb

    loggers[1].experiment.log({"table": wandb.Table(columns=["a"], data=[[1]])})
    log_summary(loggers, {"random-leaky/test/mca": 0.5})
    finish(loggers, 1)

    found = records(run_dir)
    (run,) = found["run"]
    assert run["run_id"] == (run_dir / "wandb" / "run-id").read_text()
    assert run["display_name"] == "dcae-mlp-fold3-seed7"
    assert run["run_group"] == "default-i3a-random-dcae-mlp"
    assert run["job_type"] == "head"
    assert run["project"] == "hep2"
    assert run["tags"] == ["i3a", "random", "dcae-mlp", "mine", "leaky"]
    update = {key: value for key, value in run["config"]["update"].items() if key[0] != "_"}
    assert update == {**config, "note": "key ***"}
    items = [entry["item"] for entry in found["history"]]
    assert [(i["loss"], i["trainer/global_step"]) for i in items[:2]] == [(1, 0), (0.5, 1)]
    assert items[2]["val/rec.captions"] == ["a cell"]
    summaries = [entry.get("update", {}) for entry in found["summary"]]
    assert {"random-leaky/test/mca": 0.5}.items() <= {
        key: value for update in summaries for key, value in update.items()
    }.items()
    assert [entry["exit_code"] for entry in found["exit"]] == [1]

    written = [p for p in tmp_path.rglob("*") if p.is_file() and run_dir not in p.parents]
    assert [p for p in written if "matplotlib" not in p.parts] == []
    assert not [
        p for p in run_dir.rglob("*") if p.is_file() and FAKE_KEY.encode() in p.read_bytes()
    ]
    assert [name for name in os.environ if name in hep2.trackers.wandb.FOLDERS] == []


def test_no_key_and_mode_auto_runs_offline_and_says_so(
    run_dir: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked the user"))
    monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("asked the user"))
    caplog.set_level(logging.INFO, "hep2")
    loggers = make_loggers(WANDB, run_dir, IDENTITY, {})
    log_step(loggers, 0)
    finish(loggers, 0)
    (message,) = said(caplog)
    url = sys.modules["wandb"].setup().settings.base_url
    assert message.startswith(f"W&B runs offline (no API key for {url}: ")
    assert len(list((run_dir / "wandb").glob("offline-run-*/run-*.wandb"))) == 1


def test_a_killed_wandb_core_stops_nothing(
    run_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    loggers = make_loggers(WANDB, run_dir, IDENTITY, {})
    log_step(loggers, 0)
    import wandb

    wandb.setup()._connection._proc._process.kill()
    wandb.setup()._connection._proc._process.wait()
    for step in range(1, 50):
        log_step(loggers, step)
    log_images(loggers, "rec", [np.zeros((4, 4), np.uint8)], ["a"], 9)
    log_summary(loggers, {"a": 1})
    finish(loggers, 0)
    (warning,) = said(caplog)
    assert warning.startswith("W&B is off from here on (")
    assert len(rows(run_dir)) == 50
    assert (run_dir / "pictures" / "rec-step000009-0.png").is_file()

    again = make_loggers(WANDB, tmp_path / "next", IDENTITY, {})
    log_step(again, 0)
    finish(again, 0)
    assert [entry["exit_code"] for entry in records(tmp_path / "next")["exit"]] == [0]
    assert len(said(caplog)) == 1


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("no")])
def test_any_failure_of_init_is_one_warning(
    error: Exception,
    run_dir: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr("wandb.init", fail)
    monkeypatch.setenv("WANDB_MODE", "offline")
    loggers = make_loggers(WANDB, run_dir, IDENTITY, {})
    assert loggers[1].experiment.log({"a": 1}) is None
    log_step(loggers, 0)
    log_step(loggers, 1)
    finish(loggers, 0)
    assert len(said(caplog)) == 1
    assert len(rows(run_dir)) == 2


class StuckRun:
    """A run whose upload never ends."""

    id = "stuck"

    def __init__(self) -> None:
        self.released = threading.Event()

    def log(self, values: dict) -> None: ...

    def finish(self, exit_code: int) -> None:
        self.released.wait(20)


def test_a_hung_finish_is_left_behind(
    run_dir: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = StuckRun()
    monkeypatch.setattr(hep2.trackers.wandb, "FINISH_SECONDS", 0.1)
    monkeypatch.setattr(WandbRun, "_open", lambda self: stuck)
    monkeypatch.setenv("WANDB_MODE", "offline")
    loggers = make_loggers(WANDB, run_dir, IDENTITY, {})
    log_step(loggers, 0)
    finish(loggers, 0)
    stuck.released.set()
    assert said(caplog) == [
        "W&B is off from here on (it did not finish within 0.1 s); metrics.csv goes on"
    ]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What wandb.init was told, run by run; nothing is started."""
    calls: list[dict] = []

    class Run:
        url = None

        def __init__(self, **options: object) -> None:
            calls.append(options)
            self.id = options.get("id")

        def define_metric(self, *_: object, **__: object) -> None: ...

        def log(self, values: dict) -> None: ...

        def finish(self, exit_code: int) -> None:
            calls[-1]["exit_code"] = exit_code

    monkeypatch.setattr("wandb.init", Run)
    return calls


def open_run(run_dir: Path, mode: str = "auto") -> None:
    entries = {"wandb": WandbSettings(mode=mode)}
    loggers = make_loggers(entries, run_dir, IDENTITY, {"fold": 3})
    log_step(loggers, 0)
    finish(loggers, 0)


def test_a_resumed_job_goes_on_with_its_run(
    run_dir: Path, told: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", FAKE_KEY)
    monkeypatch.setenv("WANDB_MODE", "online")
    open_run(run_dir)
    (run_dir / "last.ckpt").touch()
    open_run(run_dir)
    monkeypatch.setenv("WANDB_MODE", "offline")
    open_run(run_dir)
    (run_dir / "last.ckpt").unlink()
    open_run(run_dir)
    ids = [call["id"] for call in told]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert [call["resume"] for call in told] == ["allow", "allow", None, None]
    assert [call["exit_code"] for call in told] == [0] * 4
    assert all(call["settings"].init_timeout <= 15 for call in told)
    assert all(call["settings"].silent for call in told)


def test_a_sweep_agent_chooses_id_project_and_entity(
    run_dir: Path, told: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("SWEEP_ID", "RUN_ID", "PROJECT", "ENTITY"):
        monkeypatch.setenv(f"WANDB_{name}", "theirs")
    open_run(run_dir)
    assert {"id", "resume", "project", "entity"}.isdisjoint(told[0])
    assert told[0]["group"] == "default-i3a-random-dcae-mlp"


@pytest.mark.parametrize("agent", [False, True])
def test_jobs_of_a_sweep_are_runs_of_their_own(
    agent: bool, run_dir: Path, told: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever names one run around them; a single run goes by that name."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name, value in (("RUN_ID", "theirs"), ("RESUME", "must")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    open_run(run_dir)
    assert "id" not in told[0], "the environment's holds"
    monkeypatch.setenv("HEP2_IN_SWEEP", "1")
    if agent:
        monkeypatch.setenv("WANDB_SWEEP_ID", "theirs")
    open_run(run_dir)
    assert not {"WANDB_RUN_ID", "WANDB_RESUME"} & set(os.environ)
    if not agent:
        (run_dir / "last.ckpt").touch()
        open_run(run_dir)
        assert told[1]["id"] == told[2]["id"] != "theirs"


def test_the_folder_that_a_user_names_for_wandb_is_used(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "theirs"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    open_run(run_dir)
    (run,) = records(tmp_path / "theirs")["run"]
    assert [file.name for file in (run_dir / "wandb").iterdir()] == ["run-id"]
    assert run["run_id"] == (run_dir / "wandb" / "run-id").read_text()


def test_a_run_that_is_already_open_is_used_and_left_open(
    run_dir: Path, told: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Active:
        id = "theirs"

        def __init__(self) -> None:
            self.logged: list[dict] = []
            self.settings: dict = {}
            self.config = self

        def update(self, config: dict, allow_val_change: bool) -> None:
            self.settings |= config

        def log(self, values: dict) -> None:
            self.logged.append(values)

        def finish(self, exit_code: int) -> None:
            pytest.fail("finished a run of somebody else's")

    active = Active()
    monkeypatch.setattr("wandb.run", active)
    monkeypatch.setenv("WANDB_MODE", "offline")
    open_run(run_dir)
    assert active.settings == {"fold": 3}
    assert active.logged == [{"loss": 1.0, "trainer/global_step": 0}]
    assert told == []


def test_only_rank_zero_opens_a_run(
    run_dir: Path, told: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning.pytorch.utilities import rank_zero_only

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    loggers = make_loggers(WANDB, run_dir, IDENTITY, {})
    log_step(loggers, 0)
    loggers[1].experiment.log({"a": 1})
    log_images(loggers, "rec", [np.zeros((4, 4), np.uint8)], ["a"], 9)
    finish(loggers, 0)
    assert told == []
    assert list(run_dir.iterdir()) == []


def test_loggers_travel_to_a_spawned_rank(run_dir: Path, told: list[dict]) -> None:
    loggers = pickle.loads(pickle.dumps(make_loggers(WANDB, run_dir, IDENTITY, {})))
    loggers[1]._process = -1  # as seen from the other process
    log_step(loggers, 0)
    for logger in loggers:
        logger.finalize("failed")
    assert told[0]["exit_code"] == 1


def test_tags_and_group_say_what_the_run_is() -> None:
    identity = Identity("n" * 200, "dcae", "dcae", "synthetic", "published", False, True, 0, 1)
    told = describe(identity, ["x" * 70, "published"])
    assert told["tags"] == ["synthetic", "published", "dcae", "x" * 64]
    assert told["group"] == "n" * 128
    assert (told["name"], told["job_type"]) == ("dcae-fold0-seed1", "dcae")


# ---- the configuration


@pytest.mark.parametrize("choice", ["csv", "wandb"])
def test_every_choice_of_logger_makes_loggers(choice: str, run_dir: Path) -> None:
    with initialize_config_dir(str(ROOT / "conf" / "logger"), version_base="1.3"):
        cfg = compose(choice)
    entries = instantiate(cfg, _convert_="all")
    loggers = make_loggers(entries, run_dir, IDENTITY, {})
    assert [type(logger) for logger in loggers] == [RunFiles, WandbRun][: 1 + (choice == "wandb")]


def test_an_entry_that_is_no_logger_is_named(run_dir: Path) -> None:
    with pytest.raises(HEp2Error, match=r"logger\.wandb is not a logger"):
        make_loggers({"wandb": {"project": "x"}}, run_dir, IDENTITY, {})
    (_, own) = make_loggers({"own": DummyLogger()}, run_dir, IDENTITY, {})
    assert isinstance(own, DummyLogger)


def test_disabled_never_imports_wandb(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (ROOT / "hep2").rglob("*.py"):
        assert not re.search(r"^(import|from) wandb\b", file.read_text(), re.M), file
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if re.match(r"wandb\b", name)]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, "wandb", None)  # whoever imports it now fails
        disabled = {"wandb": WandbSettings(mode="disabled")}
        loggers = make_loggers(disabled, run_dir, IDENTITY, {})
        log_step(loggers, 0)
        finish(loggers, 0)
    assert [type(logger) for logger in loggers] == [RunFiles]
