"""Sweeps, with a stand-in for train.py that only says when and with what it ran."""

import importlib.util
import inspect
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import CONF, ROOT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from hep2.errors import HEp2Error
from hep2.files import holder, locked
from hep2.programs.train import register
from hep2.rundir.metrics_csv import Progress, read_progress, remaining
from hep2.rundir.state import run_states
from hep2.sweep.forkserver import Forked, ForkServer, starter
from hep2.sweep.jobs import Job, plan
from hep2.sweep.processes import Resources, processes_of, start, stop, visible_gpus
from hep2.sweep.schedule import Schedule
from hep2.sweep.view import follow

STAND_IN = """
import json, os, sys, time
folder, number, seconds, code, result = sys.argv[1:]
begin = time.time()
print("this is job", number, flush=True)
time.sleep(float(seconds))
report = {"begin": begin, "end": time.time(), "pid": os.getpid()}
report |= {key: os.environ.get(key) for key in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
with open(f"{folder}/{number}.json", "x") as file:  # x: a job that runs twice fails
    json.dump(report, file)
if code == "0":
    with open(result, "w") as file:
        file.write("{}")
sys.exit(int(code))
"""


class Sweep:
    """Plans jobs and runs them by the stand-in."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.folder = folder
        self.seconds: dict[int, float] = {}
        self.codes: dict[int, int] = {}
        self.without_result: set[int] = set()
        register()
        words = [(*line.split(), f"runs_dir={folder}/runs") for line in overrides]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            self.jobs = plan(words, [compose("train", list(line)) for line in words])

    def command(self, job: Job) -> list[str]:
        seconds, code = self.seconds.get(job.number, 0.0), self.codes.get(job.number, 0)
        program = [sys.executable, "-I", "-S", "-c", STAND_IN]
        result = "/dev/null" if job.number in self.without_result else str(job.run.result)
        return [*program, str(self.folder), str(job.number), str(seconds), str(code), result]

    def schedule(self, n_jobs: int = 1, fail_fast: bool = False, gpus: list[str] | None = None):
        resources = Resources(gpus or [], cores=8)
        return Schedule(self.jobs, self.command, n_jobs, fail_fast, resources)

    def run(self, n_jobs: int = 1, fail_fast: bool = False, gpus: list[str] | None = None):
        schedule = self.schedule(n_jobs, fail_fast, gpus)
        with closing(schedule.steps()) as steps:
            for _ in steps:
                pass
        return [schedule.outcomes[job.number].state for job in self.jobs]

    def report(self, number: int) -> dict:
        return json.loads((self.folder / f"{number}.json").read_text())

    def ran(self) -> list[int]:
        return sorted(int(file.stem) for file in self.folder.glob("*.json"))


FOLDS = [f"stage=dcae fold={fold}" for fold in range(4)]


def test_as_many_jobs_at_a_time_as_asked(tmp_path):
    sweep = Sweep(tmp_path, *FOLDS)
    sweep.seconds = dict.fromkeys(range(1, 5), 0.5)
    assert sweep.run(n_jobs=2) == ["done"] * 4
    reports = [sweep.report(number) for number in range(1, 5)]
    at_a_time = [
        sum(other["begin"] <= report["begin"] < other["end"] for other in reports)
        for report in reports
    ]
    assert max(at_a_time) == 2
    assert {report["OMP_NUM_THREADS"] for report in reports} == {
        os.environ.get("OMP_NUM_THREADS", "4")
    }


def test_a_head_waits_for_its_own_encoder(tmp_path):
    lines = [f"stage={stage} fold={fold}" for stage in ("head", "dcae") for fold in (0, 1)]
    sweep = Sweep(tmp_path, *lines)
    assert [job.needs for job in sweep.jobs] == [(3,), (4,), (), ()]
    sweep.seconds = {3: 3.0, 4: 0.1}
    assert sweep.run(n_jobs=4) == ["done"] * 4
    for head, encoder in ((1, 3), (2, 4)):
        assert sweep.report(head)["begin"] > sweep.report(encoder)["end"]
    assert sweep.report(2)["begin"] < sweep.report(3)["end"], "fold 1 need not wait for fold 0"


def test_a_head_whose_encoder_failed_is_skipped_and_says_so(tmp_path):
    lines = [f"stage={stage} fold={fold}" for stage in ("dcae", "head") for fold in (0, 1)]
    sweep = Sweep(tmp_path, *lines)
    sweep.codes = {1: 3}
    schedule = sweep.schedule()
    console = Console(file=io.StringIO(), width=200)
    assert not follow(schedule, console)
    states = [schedule.outcomes[number].state for number in (1, 2, 3, 4)]
    assert states == ["failed", "done", "skipped", "done"]
    assert sweep.ran() == [1, 2, 4]
    assert "#1 stage=dcae fold=0, which it needs" in schedule.outcomes[3].reason


def test_another_encoder_is_no_reason_to_wait(tmp_path):
    sweep = Sweep(tmp_path, "stage=dcae", "stage=head encoder=elsewhere.ckpt", "stage=head seed=1")
    assert [job.needs for job in sweep.jobs] == [(), (), ()]


def test_stage_1_is_trained_once_for_all_heads(tmp_path):
    lines = [
        f"stage={stage} head.widths=[{width}] name=n{width if stage == 'head' else ''}"
        for stage in ("dcae", "head")
        for width in (10, 20)
    ]
    assert [job.title for job in Sweep(tmp_path, *lines).jobs] == [
        "stage=dcae head.widths=[10] name=n",
        "stage=head head.widths=[10] name=n10",
        "stage=head head.widths=[20] name=n20",
    ]


def test_two_runs_for_one_directory_are_refused_before_anything_starts(tmp_path):
    with pytest.raises(HEp2Error, match=r"stage.optimizer.lr=0.1 and stage.optimizer.lr=0.2"):
        Sweep(tmp_path, "stage.optimizer.lr=0.1", "stage.optimizer.lr=0.2")


def test_gpus_are_shared_out(tmp_path):
    sweep = Sweep(tmp_path, *FOLDS[:3], "fold=3 trainer.accelerator=cpu", "fold=4")
    sweep.seconds = {1: 0.6, 2: 0.2, 3: 0.4, 4: 0.1, 5: 0.0}
    sweep.run(n_jobs=4, gpus=["3", "GPU-x"])
    seen = [sweep.report(number)["CUDA_VISIBLE_DEVICES"] for number in range(1, 6)]
    unseen = os.environ.get("CUDA_VISIBLE_DEVICES")
    assert seen[:4] == ["3", "GPU-x", "3", unseen]
    assert seen[4] == "GPU-x", "3 has two jobs"


@pytest.mark.parametrize(
    ("devices", "expected"), [("2", 2), ("auto", 4), ("-1", 4), ("[0,3]", 2), ("'3'", 3)]
)
def test_processes_of_a_job(devices, expected):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        trainer = compose("train", [f"trainer.devices={devices}"]).trainer
    assert processes_of(trainer, gpus=4) == expected
    if expected == 4:
        assert processes_of(trainer, gpus=0) == 1


def test_visible_gpus_are_those_that_the_user_lets_us_see():
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "2, 5"}) == ["2", "5"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []


def test_a_job_gets_the_least_used_gpus_and_its_share_of_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    resources = Resources(["0", "1", "2"], cores=16)
    trainer = OmegaConf.create({"devices": 2})
    environment, gpus = resources.share(trainer, 1, taken=["0", "0", "2"])
    assert gpus == ["1", "2"]
    assert environment == {"OMP_NUM_THREADS": "8", "CUDA_VISIBLE_DEVICES": "1,2"}
    shares = [resources.share(trainer, jobs, [])[0]["OMP_NUM_THREADS"] for jobs in (1, 3, 16)]
    assert shares == ["8", "2", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert "OMP_NUM_THREADS" not in resources.share(trainer, 1, [])[0]


def test_a_failure_is_told_with_its_log_and_stops_nobody(tmp_path):
    sweep = Sweep(tmp_path, *FOLDS[:3])
    sweep.codes = {2: 7}
    out = io.StringIO()
    assert not follow(sweep.schedule(), Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == [
        "[1/3] #1 done",
        "[2/3] #2 failed",
        "[3/3] #3 done",
    ]
    assert lines[3] == "2 of 3 jobs are finished"
    assert "#2 failed: fold=1: exit code 7" in lines
    assert "    this is job 2" in lines
    again = shlex.join(["python", *sweep.command(sweep.jobs[1])[1:]])
    assert f"  again: {again}\n" in out.getvalue()


def test_what_is_odd_about_the_data_is_told_once(tmp_path):
    sweep = Sweep(tmp_path, *FOLDS[:3])
    for job in sweep.jobs:
        job.run.path.mkdir(parents=True)
    for job in sweep.jobs[:2]:
        job.run.write_result({"notes": ["cells: [some] are black"]})
    sweep.jobs[2].run.result.write_text("broken")
    out = io.StringIO()
    assert follow(sweep.schedule(), Console(file=out, width=80))
    assert out.getvalue().splitlines()[-2:] == [
        "3 of 3 jobs are finished",
        "cells: [some] are black",
    ]


def test_what_is_planned_and_what_failed_can_be_seen_from_outside(tmp_path):
    sweep = Sweep(tmp_path, *FOLDS[:3])
    sweep.codes, sweep.without_result = {1: 7}, {2}
    schedule = sweep.schedule()
    with closing(schedule.steps()) as steps:
        next(steps)
        states = run_states(tmp_path / "runs/default")
        assert [one.state for one in states] == ["missing"] * 3
        while len(schedule.outcomes) < 2:
            next(steps)
    states = run_states(tmp_path / "runs/default")
    assert [one.path for one in states] == [job.run.path for job in sweep.jobs]
    assert (states[0].state, states[0].detail) == ("failed", "exit code 7")
    assert (states[1].state, states[1].detail) == ("failed", "it ended without a result")
    assert schedule.outcomes[2].state == "failed"


@pytest.fixture
def heeds_interruptions():
    """Programs that a shell starts in the background ignore SIGINT, and so do their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("code", [143, 130, -signal.SIGTERM, -signal.SIGINT])
def test_a_job_that_was_asked_to_end_has_not_failed(code, tmp_path, heeds_interruptions):
    sweep = Sweep(tmp_path, "stage=dcae", "stage=head", "stage=dcae fold=1")
    sweep.codes = {1: code}
    if code < 0:  # it could say nothing
        sweep.codes[1], sweep.seconds[1] = 1, 60
    schedule, out = sweep.schedule(fail_fast=True), io.StringIO()
    sweep.jobs[0].run.record_failure("connection closed by peer")  # says a rank
    if code < 0:
        wanted = schedule.start

        def start_and_signal(*words):
            process, log_from = wanted(*words)
            if len(schedule.outcomes) == 0:
                os.kill(process.pid, -code)
            return process, log_from

        schedule.start = start_and_signal
    assert not follow(schedule, Console(file=out, width=200))
    assert [schedule.outcomes[n].state for n in (1, 2, 3)] == ["interrupted", "skipped", "done"]
    assert "asked to end; the same command goes on" in schedule.outcomes[1].reason
    assert "\n  again: python " in out.getvalue()
    states = [one.state for one in run_states(tmp_path / "runs/default")]
    assert states == ["interrupted", "finished", "missing"]
    assert not list(tmp_path.rglob("failed.txt"))


def test_fail_fast_stops_the_others(tmp_path):
    sweep = Sweep(tmp_path, *FOLDS)
    sweep.seconds, sweep.codes = {1: 60, 2: 0.1}, {2: 1}
    begin = time.monotonic()
    assert sweep.run(n_jobs=2, fail_fast=True) == ["stopped", "failed", "stopped", "stopped"]
    assert time.monotonic() - begin < 5
    assert sweep.ran() == [2]


def test_what_is_finished_is_not_started(tmp_path):
    sweep = Sweep(tmp_path, *FOLDS[:2])
    sweep.jobs[0].run.path.mkdir(parents=True)
    sweep.jobs[0].run.result.write_text("{}")
    assert sweep.run() == ["finished already", "done"]
    assert sweep.ran() == [2]


def test_a_directory_with_another_run_is_left_alone(tmp_path):
    first = Sweep(tmp_path, "stage.optimizer.lr=0.1").jobs[0]
    first.run.claim(first.cfg)
    first.run.result.write_text("{}")
    sweep = Sweep(tmp_path, "stage.optimizer.lr=0.2", "fold=1")
    schedule = sweep.schedule()
    assert not follow(schedule, Console(file=io.StringIO()))
    assert schedule.outcomes[1].state == "failed"
    assert "another configuration (stage.optimizer.lr: 0.1" in schedule.outcomes[1].reason
    assert sweep.ran() == [2]


def test_a_job_at_work_elsewhere_is_waited_for(tmp_path):
    sweep = Sweep(tmp_path, *FOLDS[:2])
    schedule = sweep.schedule(n_jobs=2)
    with closing(schedule.steps()) as steps:
        with locked(sweep.jobs[0].run.lock, wait=False):
            while 2 not in schedule.outcomes:
                next(steps)
            assert schedule.held == {
                1: f"process {os.getpid()} on {os.uname().nodename}",
            }
            assert sweep.ran() == [2]
            sweep.jobs[0].run.result.write_text("{}")  # the other one ends well
        for _ in steps:
            pass
    assert schedule.outcomes[1].state == "finished already"
    assert sweep.ran() == [2]


def test_whoever_stops_listening_stops_the_jobs(tmp_path):
    sweep = Sweep(tmp_path, *FOLDS[:2])
    sweep.seconds = {1: 60}
    schedule = sweep.schedule()
    with pytest.raises(KeyboardInterrupt), closing(schedule.steps()) as steps:
        for _ in steps:
            if schedule.running:
                process = schedule.running[0].process
                sweep.jobs[0].run.record_failure("connection closed by peer")
                raise KeyboardInterrupt
    assert process.poll() is not None
    assert [schedule.outcomes[number].state for number in (1, 2)] == ["stopped", "stopped"]
    states = [one.state for one in run_states(tmp_path / "runs/default")]
    assert states == ["interrupted", "missing"]


def test_a_process_that_does_not_want_to_end_is_ended_with_its_children(tmp_path):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    child = f"{deaf} print(os.getpid(), flush=True); time.sleep(60)"
    code = f"import os, subprocess, sys; {deaf} "
    code += f"subprocess.run([sys.executable, '-c', 'import os; {child}'])"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    grandchild = int(process.stdout.readline())
    stop([process], patience=0.2)
    assert process.returncode == -signal.SIGKILL
    assert _gone(grandchild)


def test_no_job_outlives_a_sweep_that_is_killed(tmp_path):
    job = "from hep2.signals import die_with_parent; die_with_parent(); "
    job += "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    sweep = "import sys, time; from pathlib import Path; from hep2.sweep.processes import start; "
    sweep += f"start([sys.executable, '-c', {job!r}], {{}}, Path('log')); time.sleep(60)"
    parent = subprocess.Popen(
        [sys.executable, "-c", sweep], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    log = tmp_path / "log"
    while not log.is_file() or not log.read_text().endswith("\n"):
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert _gone(int(log.read_text()))


FORKED = """
import json, os, signal, sys, time
print("this is", *sys.argv[1:], flush=True)
print("an error", file=sys.stderr)
report = {"name": __name__, "group": os.getpgrp(), "session": os.getsid(0), "pid": os.getpid()}
report |= {"environment": dict(os.environ), "parent": os.getppid(), "stdin": sys.stdin.read()}
report["deaf"] = signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
with open(sys.argv[1], "x") as file:
    json.dump(report, file)
time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def fork_server() -> ForkServer:
    return ForkServer(preload=())


def forked(fork_server: ForkServer, folder: Path, name: str, *words: object, **environment: str):
    (folder / "program.py").write_text(FORKED)
    command = [sys.executable, str(folder / "program.py"), str(folder / name), *map(str, words)]
    return fork_server.start(
        command, {"OMP_NUM_THREADS": "1", **environment}, folder / "new/log.txt"
    )


def test_a_forked_job_is_a_process_of_its_own(tmp_path, fork_server):
    process, log_from = forked(fork_server, tmp_path, "a", 0, 3, MARK="of a")
    assert isinstance(process, Forked)
    assert (process.wait(60), process.poll(), process.returncode, log_from) == (3, 3, 3, 0)
    report = json.loads((tmp_path / "a").read_text())
    assert report["name"] == "__main__"
    assert report["pid"] == report["group"] == report["session"] == process.pid != os.getpid()
    assert report["environment"]["MARK"] == "of a"
    assert report["environment"]["HEP2_IN_SWEEP"] == "1"
    assert report["parent"] != os.getpid(), "the server's child, not ours"
    assert (report["stdin"], report["deaf"]) == ("", False)
    log = tmp_path / "new/log.txt"
    assert log.read_text() == f"this is {tmp_path}/a 0 3\nan error\n"
    other, log_from = forked(fork_server, tmp_path, "b", 0, 0)
    assert other.wait(60) == 0
    assert log_from == len(f"this is {tmp_path}/a 0 3\nan error\n"), "its output is appended"
    report = json.loads((tmp_path / "b").read_text())
    assert "MARK" not in report["environment"]
    assert "MARK" not in os.environ


def test_a_forked_job_is_stopped_like_any_other(tmp_path, fork_server):
    process, _ = forked(fork_server, tmp_path, "a", 60, 0)
    while not (tmp_path / "a").is_file():
        assert process.poll() is None
        time.sleep(0.02)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    stop([process])
    assert process.returncode == -signal.SIGTERM
    assert _gone(process.pid)


def test_an_exception_in_a_forked_job_is_told_in_its_log(tmp_path, fork_server):
    process, _ = forked(fork_server, tmp_path, "a", 0, "no number")
    assert process.wait(60) == 1
    assert "ValueError: invalid literal" in (tmp_path / "new/log.txt").read_text()


def test_jobs_start_again_after_the_server_has_died(tmp_path, fork_server):
    forked(fork_server, tmp_path, "a", 0, 0)[0].wait(60)
    os.kill(json.loads((tmp_path / "a").read_text())["parent"], signal.SIGKILL)
    assert forked(fork_server, tmp_path, "b", 0, 0)[0].wait(60) == 0
    process, _ = forked(fork_server, tmp_path, "c", 0, 4)
    assert isinstance(process, Forked)
    assert process.wait(60) == 4


def test_another_number_of_threads_needs_another_start(tmp_path, fork_server):
    forked(fork_server, tmp_path, "a", 0, 0)[0].wait(60)
    process, _ = forked(fork_server, tmp_path, "b", 0, 0, OMP_NUM_THREADS="2")
    assert isinstance(process, subprocess.Popen)
    assert process.wait(60) == 0
    report = json.loads((tmp_path / "b").read_text())
    assert report["environment"]["OMP_NUM_THREADS"] == "2"


def test_what_the_fork_server_imports_exists():
    """A name that is gone would be passed over in silence, and every job be slow."""
    (module,) = inspect.signature(ForkServer).parameters["preload"].default
    names = [module, *re.findall(r'"(hep2\.\S+|sklearn\.\S+|wandb[\w.]*)"', source(module))]
    assert len(names) == 8
    assert all(importlib.util.find_spec(name) for name in names)


def source(module: str) -> str:
    return (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")


def test_jobs_that_see_a_gpu_and_single_jobs_are_not_forked():
    assert starter(True, ["0"]) is start
    assert starter(False, []) is start
    assert starter(True, []).__func__ is ForkServer.start


def test_a_sweep_of_forked_jobs(tmp_path, fork_server):
    sweep = Sweep(tmp_path, *FOLDS[:3])
    (tmp_path / "program.py").write_text(STAND_IN)

    def command(job: Job) -> list[str]:
        words = sweep.command(job)
        return [sys.executable, str(tmp_path / "program.py"), *words[5:]]

    sweep.codes = {2: 7}
    schedule = Schedule(
        sweep.jobs, command, 2, resources=Resources(cores=2), start=fork_server.start
    )
    out = io.StringIO()
    assert not follow(schedule, Console(file=out, width=80))
    assert [schedule.outcomes[number].state for number in (1, 2, 3)] == ["done", "failed", "done"]
    assert "#2 failed: fold=1: exit code 7" in out.getvalue()
    assert "    this is job 2" in out.getvalue()


def _gone(process: int) -> bool:
    """Whether a process ends within two seconds (a zombie has ended)."""
    for _ in range(40):
        status = Path(f"/proc/{process}/stat")
        try:
            if status.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_a_lock_is_held_by_one_and_says_by_whom(tmp_path):
    file = tmp_path / "run" / ".lock"
    assert holder(file) is None
    with locked(file, wait=False):
        assert holder(file) == f"process {os.getpid()} on {os.uname().nodename}"
        used = pytest.raises(HEp2Error, match=f"in use by process {os.getpid()} on")
        with used, locked(file, wait=False):
            pytest.fail("two hold it")
    assert holder(file) is None
    with locked(file, wait=False):
        pass


def test_a_lock_ends_with_its_process_and_not_with_its_workers(tmp_path):
    file = tmp_path / ".lock"
    code = "import os, sys, time; from pathlib import Path; from hep2.files import locked\n"
    code += "with locked(Path(sys.argv[1]), wait=False):\n"
    code += "    worker = os.fork()\n"
    code += "    if worker: print(worker, flush=True)\n"
    code += "    time.sleep(60)\n"
    command = [sys.executable, "-c", code, str(file)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    worker = int(process.stdout.readline())
    try:
        assert holder(file) == f"process {process.pid} on {os.uname().nodename}"
        process.kill()
        process.wait()
        assert not _gone(worker)
        with locked(file, wait=False):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)


def test_progress_is_read_off_whole_rows(tmp_path):
    assert read_progress(tmp_path) == Progress()
    text = "step,train/loss,epoch,val/loss\n3,0.5,0,\n3,,0,0.25\n7,0.4,1,\n7,,2"
    (tmp_path / "metrics.csv").write_text(text)
    assert read_progress(tmp_path) == Progress(2, "val/loss 0.25")
    assert remaining(done=6, total=10, begun_at=4, seconds=10) == 20
    assert remaining(done=4, total=10, begun_at=4, seconds=10) is None


def test_on_a_terminal_a_table_is_drawn(tmp_path):
    sweep = Sweep(tmp_path, *FOLDS[:2])
    sweep.seconds = {1: 1.5}
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    assert follow(sweep.schedule(), console)
    assert "0/10" in out.getvalue()
    assert "1 running, 1 waiting" in out.getvalue()


def test_a_sweep_that_cannot_be_is_refused_in_one_sentence(tmp_path):
    for words, code, message in (
        (["stage.optimizer.lr=0.1,0.2"], 1, "two jobs of this sweep"),
        (["fold=0,1", "hydra.launcher.n_jobs=0"], 1, "n_jobs=0 must be 1 or more"),
        (["fold=0,1", "flod=3"], 2, "did you mean fold?"),
    ):
        done = subprocess.run(
            [sys.executable, ROOT / "train.py", "-m", *words, "runs_dir=runs"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
        assert message in done.stderr
