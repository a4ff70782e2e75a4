"""Whole sweeps as a user starts them: killed, without room, without data, with a lost rank."""

import functools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from hep2.rundir.state import run_states

pytestmark = pytest.mark.slow

SMALL = (
    "data.source.cells=120",
    "data.source.specimens=10",
    "model=dcae_small",
    "logger=csv",
    "checkpoint_seconds=0",
    "trainer.accelerator=cpu",
    "stage.epochs=3",
)
# Four jobs, two of them with two processes; a name for each number of processes. Too few specimens
# for the validation that is asked for, so that there is something to be said.
FOUR = ("stage=dcae,head", "trainer.devices=1,2", "name=with${trainer.devices}",
        "protocol.validation=0.2")  # fmt: skip


def train(folder: Path, *words: str, **settings) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "train.py"), *words, f"runs_dir={folder}/runs"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, f"cache_dir={folder}/cache"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **settings,
    )


def sweep(folder: Path, *words: str, **settings) -> tuple[int, str]:
    process = train(folder, "-m", *SMALL, *words, **settings)
    output, _ = process.communicate(timeout=900)
    return process.returncode, output


def four_jobs(folder: Path) -> tuple[int, str]:
    return sweep(folder, *FOUR, "hydra.launcher.n_jobs=2")


def killed(folder: Path, seconds: float) -> str:
    """Start the four jobs, kill the sweep, and say what was there at that moment."""
    process = train(folder, "-m", *SMALL, *FOUR, "hydra.launcher.n_jobs=2")
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(0.5)
    left = processes_below(folder)
    assert not left, f"orphans: {left}"
    assert "running" not in states(folder, "with1") + states(folder, "with2")
    runs = sorted((folder / "runs").glob("*/*/*/*/*"))
    return "; ".join(f"{run.parents[3].name} {run.parents[1].name}: {state(run)}" for run in runs)


def state(run: Path) -> str:
    if (run / "result.json").is_file():
        return "finished"
    return "checkpoint" if (run / "last.ckpt").is_file() else "begun"


def states(folder: Path, name: str) -> list[str]:
    """What `evaluate.py name=...` says of each run."""
    return [one.state for one in run_states(folder / "runs" / name)]


def processes_below(folder: Path) -> list[str]:
    """The command lines of live processes that work in this folder."""
    commands = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder.resolve():
                commands.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return commands


def predictions(folder: Path) -> dict[str, bytes]:
    files = (folder / "runs").glob("*/*/head-*/*/*/predictions.csv")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def results(folder: Path) -> list[Path]:
    return sorted((folder / "runs").rglob("result.json"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, float]:
    folder = tmp_path_factory.mktemp("undisturbed")
    begin = time.monotonic()
    code, output = four_jobs(folder)
    assert code == 0, output
    assert len(predictions(folder)) == 2
    return folder, time.monotonic() - begin


def test_killed_and_started_again_ends_the_same(undisturbed, tmp_path):
    folder, seconds = undisturbed
    moment = random.uniform(0, seconds)
    seen = killed(tmp_path, moment)
    code, output = four_jobs(tmp_path)
    assert code == 0, output
    assert predictions(tmp_path) == predictions(folder), f"killed after {moment:.1f} s: {seen}"
    code, output = four_jobs(tmp_path)
    assert output.count("finished already") == 4


def test_one_job_at_a_time_gives_the_same_predictions(undisturbed, tmp_path):
    folder, _ = undisturbed
    code, output = sweep(tmp_path, *FOUR, "hydra.launcher.n_jobs=1")
    assert code == 0, output
    assert predictions(tmp_path) == predictions(folder)


def test_two_processes_leave_one_of_everything(undisturbed):
    folder, _ = undisturbed
    (run,) = (folder / "runs").glob("with2/*/head-*/*/*")
    log = (run / "log.txt").read_text().splitlines()
    said = [line for line in log if "have no validation cell" in line]
    assert len(said) == 1, log
    assert len([line for line in log if line.startswith(f"{run}: ")]) == 1, log
    lines = (run / "predictions.csv").read_text().splitlines()
    cells = json.loads((run / "result.json").read_text())["cells"]["test"]
    assert len({line.split(",")[0] for line in lines[1:]}) == len(lines) - 1 == cells


def test_two_sweeps_at_once_do_every_job_once(tmp_path):
    words = ("-m", *SMALL, "stage=dcae", "fold=0,1", "debug=fdr")
    both = [train(tmp_path, *words), train(tmp_path, *words)]
    outputs = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    logs = [(run.parent / "log.txt").read_text() for run in results(tmp_path)]
    assert [log.count("specimen/test/mse") for log in logs] == [1, 1], outputs


def test_a_training_that_raises_stops_nobody(tmp_path):
    code, output = sweep(tmp_path, "fold=0,99", "debug=fdr")
    assert code == 1
    assert len(results(tmp_path)) == 1
    assert "#2 failed: fold=99: exit code 1" in output
    assert states(tmp_path, "debug") == ["finished", "failed"]
    assert "    error: " in output
    assert "  again: python " in output


def test_a_full_disk_is_named_and_stops_nobody(tmp_path):
    """The larger network's checkpoint does not fit; the smaller one's does."""
    limit = 3 * 2**20

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = ("model.network.widths=[4,4,8,8],[12,24,64,256]", "name=w${model.network.widths.3}")
    code, output = sweep(tmp_path, *words, "debug=fdr", preexec_fn=little_room)
    assert code == 1, output
    assert [path.parents[4].name for path in results(tmp_path)] == ["w8"], output
    assert "free some space" in output, output
    assert states(tmp_path, "w256") == ["failed"]


def test_data_that_disappear_are_named_and_stop_nobody(tmp_path):
    from PIL import Image

    for folder in ("stays", "goes"):
        for label in ("a", "b"):
            for specimen in range(6):
                place = tmp_path / folder / label / f"{label}{specimen}"
                place.mkdir(parents=True)
                for cell in range(4):
                    noise = random.Random(f"{folder}{label}{specimen}{cell}").randbytes(64 * 64)
                    Image.frombytes("L", (64, 64), noise).save(place / f"{cell}.png")
    words = (
        "data=folder",
        "model=dcae_small",
        "logger=csv",
        "debug=fdr",
        "trainer.accelerator=cpu",
    )
    root = f"data.root={tmp_path}/${{data.name}}"
    process = train(tmp_path, "-m", *words, root, "data.name=stays,goes")
    while not results(tmp_path) and process.poll() is None:
        time.sleep(0.05)
    for file in (tmp_path / "goes").rglob("*.png"):
        file.unlink()
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 1, output
    assert len(results(tmp_path)) == 1, output
    assert f"{tmp_path}/goes" in output and "    error: " in output, output


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_dies_takes_the_job_with_it(tmp_path, rank):
    words = (*SMALL, "stage=dcae", "trainer.devices=2", "stage.epochs=2000")
    process = train(tmp_path, *words)
    ranks: list[int] = []
    while not list(tmp_path.rglob("last.ckpt")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    ranks = [process.pid, *children(process.pid)]
    assert len(ranks) == 2
    os.kill(ranks[rank], signal.SIGKILL)
    begin = time.monotonic()
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert time.monotonic() - begin < 30
    time.sleep(1)
    assert not processes_below(tmp_path)
    assert not results(tmp_path)


def children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in text.split()}
    return [child for child, command in commands.items() if "train.py" in command]


def test_the_dry_run_of_two_folds_on_two_processes(tmp_path):
    words = ("stage=dcae", "fold=0,1", "trainer.devices=2", "debug=fdr")
    begin = time.monotonic()
    code, output = sweep(tmp_path, *words)
    assert code == 0, output
    seconds = time.monotonic() - begin
    assert seconds < 60 or os.getloadavg()[0] > (os.cpu_count() or 1), f"{seconds:.0f} s"
    assert len(results(tmp_path)) == 2
    assert len(list((tmp_path / "runs").rglob("metrics.csv"))) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "runs"]


def test_two_jobs_by_submitit_on_this_machine(tmp_path):
    pytest.importorskip("submitit")
    words = ("hydra/launcher=slurm_rehearsal", "stage=dcae", "fold=0,1", "debug=fdr")
    code, output = sweep(tmp_path, *words)
    assert code == 0, output
    assert [path.parents[1].name for path in results(tmp_path)] == ["fold0", "fold1"]


def agent(folder: Path, file: str, *extra: str) -> subprocess.CompletedProcess:
    """Run the command that W&B's agent would run for one configuration of a sweep."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load((ROOT / file).read_text())
    args = {
        name: {"value": entry.get("value", entry.get("values", [entry.get("min")])[0])}
        for name, entry in sweep["parameters"].items()
    }
    filled = {
        "${env}": [],
        "${interpreter}": [sys.executable],
        "${program}": [str(ROOT / sweep["program"])],
        "${args_no_hyphens}": create_sweep_command_args({"args": args})["args_no_hyphens"],
    }
    command = [word for part in sweep["command"] for word in filled.get(part, [part])]
    places = [f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"]
    environment = {"WANDB_MODE": "offline", "WANDB_SWEEP_ID": "a1b2c3d4", "WANDB_RUN_ID": "e5f6"}
    return subprocess.run(
        [*command, *places, "trainer.accelerator=cpu", *extra],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )


def test_an_agent_s_command_for_the_grid_runs(tmp_path):
    parameters = yaml.safe_load((ROOT / "sweep.yaml").read_text())["parameters"]
    shared = [f"{name}={parameters[name]['value']}" for name in ("name", "data", "protocol")]
    tiny = ("data.source.cells=120", "data.source.specimens=10", "debug=fdr")
    model = f"model={parameters['model']['values'][0]}"
    encoder = train(tmp_path, *shared, model, *tiny, "stage=dcae", "logger=csv")
    assert encoder.wait() == 0, encoder.communicate()[0]
    done = agent(tmp_path, "sweep.yaml", *tiny)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(predictions(tmp_path)) == 1


def test_an_agent_s_command_for_the_search_runs(tmp_path):
    tiny = ("data.source.cells=240", "data.source.specimens=30", "model=dcae_small")
    done = agent(tmp_path, "conf/sweep_bayes.yaml", *tiny, "debug=fdr", "--folds=0,1")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = [float(line.split()[-1]) for line in done.stdout.splitlines() if "MCA" in line]
    assert len(figures) == 2
    mean = float(done.stdout.splitlines()[-1].removeprefix("mean_val_mca "))
    assert mean == pytest.approx(sum(figures) / 2, abs=1e-4)
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 1, "the search's own, no job's"


@pytest.mark.parametrize("whom", ["process", "group", "rank"])
@pytest.mark.parametrize("settings", ["data.workers=2", "trainer.devices=2"])
def test_sigterm_ends_a_run_and_nothing_is_lost(tmp_path, whom, settings):
    words = (*SMALL, "stage=dcae", settings, "stage.epochs=2000")
    process = train(tmp_path, *words, start_new_session=True)
    while not list(tmp_path.rglob("last.ckpt")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    if whom == "group":
        os.killpg(process.pid, signal.SIGTERM)
    else:
        ranks = children(process.pid) if "devices" in settings else []
        os.kill(ranks[0] if whom == "rank" and ranks else process.pid, signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 143
    assert "error: asked to end (SIGTERM); the same command goes on" in output
    assert "Traceback" not in output
    assert states(tmp_path, "default") == ["interrupted"]
    time.sleep(0.5)
    assert not processes_below(tmp_path)


def test_sigterm_to_one_job_of_a_sweep_and_to_the_sweep(tmp_path):
    words = ("-m", *SMALL, "stage=dcae", "fold=0,1", "stage.epochs=2000")
    process = train(tmp_path, *words)
    for fold in (0, 1):
        while not (found := list(tmp_path.rglob(f"fold{fold}/seed0/last.ckpt"))):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.2)
        holder = int((found[0].parent / ".lock").read_text().split()[1])
        os.kill(process.pid if fold else holder, signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 143
    assert "#1 interrupted  fold=0" in output
    assert "error: asked to end (SIGTERM); the same command goes on" in output
    log = (found[0].parents[2] / "fold0/seed0/log.txt").read_text()
    assert "error: asked to end (SIGTERM); the same command goes on" in log
    assert states(tmp_path, "default") == ["interrupted", "interrupted"]
    time.sleep(0.5)
    assert not processes_below(tmp_path)


def test_ctrl_c_leaves_nothing_behind(tmp_path):
    words = (*SMALL, "stage=dcae", "fold=0,1", "trainer.devices=2", "stage.epochs=2000")
    # A shell that runs tests in the background lets them ignore Ctrl-C.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = train(tmp_path, "-m", *words, preexec_fn=heed)
    while not list(tmp_path.rglob("last.ckpt")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    assert states(tmp_path, "default") == ["running", "missing"]
    os.kill(process.pid, signal.SIGINT)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 130
    assert "error: interrupted; the same command goes on" in output
    assert states(tmp_path, "default") == ["interrupted", "missing"]
    time.sleep(0.5)
    assert not processes_below(tmp_path)
