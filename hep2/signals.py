"""Requests to end: SIGTERM ends a process as Ctrl-C does; before it Slurm may send SIGUSR1.

A process also ends with the one that started it, where that has named itself.
"""

import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hep2.config import IN_SWEEP
from hep2.errors import Terminated, asked_to_end

log = logging.getLogger(__name__)

PARENT = "HEP2_PARENT"  # the process that this one shall not outlive
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextmanager
def heeded() -> Iterator[None]:
    """Within it SIGTERM raises `Terminated`, and so does SIGUSR1 in a job of Slurm.

    SIGUSR1 is what `#SBATCH --signal=USR1@60` sends a minute before a job is cut off: the job is
    put into the queue again, as Lightning would do it, but at any time, not in a training alone.
    Handlers that somebody else has put there (submitit's) stay.
    """
    handlers = {signal.SIGTERM: _terminate}
    if "SLURM_JOB_ID" in os.environ:
        handlers[signal.SIGUSR1] = _requeue
    ours = []
    if threading.current_thread() is threading.main_thread():
        ours = [number for number in handlers if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, handlers[number])
    after = signal.SIG_DFL
    try:
        yield
    except BaseException as error:
        if asked_to_end(error):
            after = signal.SIG_IGN  # it is on its way out: asked twice is asked once
        raise
    finally:
        for number in ours:
            signal.signal(number, after)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch calls a worker that ended an error
    raise Terminated


def _requeue(number: int, frame: FrameType | None) -> None:
    """Of a job's processes the first asks; jobs of a sweep leave that to the sweep."""
    first = os.environ.get("SLURM_PROCID", "0") == "0" and IN_SWEEP not in os.environ
    if first and multiprocessing.parent_process() is None:  # a loader's worker has a parent
        job = os.environ["SLURM_JOB_ID"]
        if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
            job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        try:
            subprocess.run(["scontrol", "requeue", job], check=True)
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("job %s cannot be put into the queue again: %s", job, error)
    _terminate(number, frame)


def die_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """End this process, by a signal, at once when the one that started it ends, however it does.

    Meant to be the first thing that a program does. A sweep names itself in the environment of its
    jobs, and a job names itself to the ranks that Lightning starts.
    """
    named = os.environ.get(PARENT, "")
    os.environ[PARENT] = str(os.getpid())
    if not named.isdigit():
        return
    parent = int(named)
    if os.getppid() == parent and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
    elif os.getppid() == parent:
        threading.Thread(target=_watch, args=(parent, by), daemon=True).start()
    if os.getppid() != parent:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:  # it ended before we could be bound to it
            os.kill(os.getpid(), signal.SIGKILL)
        except PermissionError:  # it is there, and somebody else's
            pass


def _watch(parent: int, by: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), by)
