"""How far the runs of a name are, at any time, also while they are at work."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from hep2.files import holder
from hep2.rundir import directory as failure
from hep2.rundir.directory import RunDir
from hep2.rundir.metrics_csv import read_progress
from hep2.rundir.result import run_directories

STATES = ("finished", "running", "failed", "interrupted", "missing")


@dataclass(frozen=True)
class RunState:
    """Where one run stands.

    Attributes:
        path: its directory.
        state: one of STATES; "interrupted" ended without a word (killed, Ctrl-C) and goes on when
            its command is given again, "missing" was planned by a sweep and has not begun (a
            folder that holds nothing; delete it where the plan was a mistake).
        detail: its newest figure, or why it failed.
    """

    path: Path
    state: str
    detail: str


def run_states(root: Path) -> list[RunState]:
    """Look at every run below `root` (`runs/<name>`); nothing is written."""
    finished, unfinished = run_directories(root)
    return [_state_of(path) for path in sorted(finished + unfinished)]


def as_text(root: Path, states: list[RunState]) -> str:
    """How many are in each state; as long as not all are finished, also a line a run."""
    counts = [(state, sum(one.state == state for one in states)) for state in STATES]
    shown = ", ".join(f"{state} {count}" for state, count in counts if count) or "no runs"
    lines = [f"{root}: {shown}"]
    if any(one.state != "finished" for one in states):
        lines += [f"  {one.state:11} {_line(root, one)}" for one in states]
    return "\n".join(lines)


def _line(root: Path, one: RunState) -> str:
    return "  ".join(word for word in (one.path.relative_to(root).as_posix(), one.detail) if word)


def _state_of(path: Path) -> RunState:
    run = RunDir(path)
    if run.finished:
        return RunState(path, "finished", read_progress(path).figure)
    who = holder(run.lock)
    if who is not None:
        return RunState(path, "running", ", ".join(filter(None, (_so_far(run), who))))
    why = failure.reason(path)
    if why is not None:
        return RunState(path, "failed", why)
    begun = run.config.is_file() or run.log.is_file()
    return RunState(path, "interrupted" if begun else "missing", _so_far(run))


def _so_far(run: RunDir) -> str:
    """E.g. "epoch 3 of 30, val/loss 0.012"; empty before the end of the first epoch."""
    progress = read_progress(run.path)
    epoch = f"epoch {progress.epochs}{_of_epochs(run)}" if progress.epochs else ""
    return ", ".join(filter(None, (epoch, progress.figure)))


def _of_epochs(run: RunDir) -> str:
    try:
        epochs = yaml.safe_load(run.config.read_bytes())["trainer"]["max_epochs"]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        return ""
    return f" of {epochs}" if isinstance(epochs, int) else ""
