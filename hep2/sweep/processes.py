"""Processes of a sweep: none outlives the one that started it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

PARENT = "HEP2_PARENT"  # the process that this one shall not outlive
IN_SWEEP = "HEP2_IN_SWEEP"  # set: a sweep has started this process and can wait
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """End this process at once when the one that started it ends, however that happens.

    Meant to be the first thing that a program does. A sweep names itself in the environment of its
    jobs, and a job names itself to the ranks that Lightning starts.

    Args:
        by: the signal that ends it.
    """
    named = os.environ.get(PARENT, "")
    os.environ[PARENT] = str(os.getpid())
    if not named.isdigit():
        return
    parent = int(named)
    if os.getppid() == parent:
        _bind_to(parent, by)
    if os.getppid() != parent and not _exists(parent):
        os.kill(os.getpid(), signal.SIGKILL)  # it ended before we could be bound to it


def _bind_to(parent: int, by: signal.Signals) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
    else:
        threading.Thread(target=_watch, args=(parent, by), daemon=True).start()


def _watch(parent: int, by: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), by)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


class Started(Protocol):
    """A process of a job: `subprocess.Popen`, or one that was forked."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None until `poll` or `wait` has seen the end."""

    def poll(self) -> int | None:
        """The exit code; None while the process runs."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end, or raise `subprocess.TimeoutExpired`."""


Start = Callable[[Sequence[str], Mapping[str, str], Path], tuple[Started, int]]


def marks() -> dict[str, str]:
    """What tells a job, by its environment, whose it is."""
    return {PARENT: str(os.getpid()), IN_SWEEP: "1", "PYTHONUNBUFFERED": "1"}


def start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> tuple[Started, int]:
    """Start a job in a process group of its own; its output is appended to a log file.

    Returns:
        The process, and the length of the log before it.

    Raises:
        OSError: the log cannot be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        before = output.tell()
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment, **marks()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, before


def stop(processes: Sequence[Started], patience: float = 5.0) -> None:
    """Ask process groups to end, and end those that do not within `patience` seconds."""
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    until = time.monotonic() + patience
    try:
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
    finally:  # a second Ctrl-C comes here as well
        for process in processes:
            _signal_group(process, signal.SIGKILL)  # also what the group's leader left behind
            process.wait()


def sweep_away(process: Started) -> None:
    """End what a process that has ended may have left of its group."""
    _signal_group(process, signal.SIGKILL)


def _signal_group(process: Started, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
