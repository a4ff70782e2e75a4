"""How far the runs of a name are, at any time, also while they are at work."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from hep2.files import holder
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import run_directories
from hep2.rundir.metrics_csv import read_progress

# "interrupted" ended without a word (killed, Ctrl-C) and goes on when its command is given again.
# "missing" was planned by a sweep and has not begun: an empty folder, to be deleted where the plan
# was a mistake.
STATES = ("finished", "running", "failed", "interrupted", "missing")


@dataclass(frozen=True)
class RunState:
    """Where one run stands."""

    path: Path
    state: str  # one of STATES
    detail: str  # its newest metric, or why it failed


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
        for one in states:
            where = one.path.relative_to(root).as_posix()
            lines.append(f"  {one.state:11} {where}  {one.detail}".rstrip())
    return "\n".join(lines)


def _state_of(path: Path) -> RunState:
    run, progress = RunDir(path), read_progress(path)
    if run.finished:
        return RunState(path, "finished", progress.metric)
    epoch = f"epoch {progress.epochs}{_of_epochs(run)}" if progress.epochs else ""
    so_far = [word for word in (epoch, progress.metric) if word]
    if (who := holder(run.lock)) is not None:
        return RunState(path, "running", ", ".join([*so_far, who]))
    if (why := run.failure_reason()) is not None:
        return RunState(path, "failed", why)
    begun = run.config.is_file() or run.log.is_file()
    return RunState(path, "interrupted" if begun else "missing", ", ".join(so_far))


def _of_epochs(run: RunDir) -> str:
    try:
        epochs = yaml.safe_load(run.config.read_bytes())["trainer"]["max_epochs"]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        return ""
    return f" of {epochs}" if isinstance(epochs, int) else ""
