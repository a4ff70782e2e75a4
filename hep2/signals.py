"""Requests to end: SIGTERM ends a process as Ctrl-C does; before it Slurm may send SIGUSR1."""

import logging
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hep2.config import IN_SWEEP

log = logging.getLogger(__name__)

TERMINATED = 128 + signal.SIGTERM  # exit code: what shells and schedulers know


class Terminated(SystemExit):
    """Somebody asked this process to end: a scheduler, a container, `timeout`, an OOM guard."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


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


def asked_to_end(error: BaseException) -> bool:
    """Whether an exception is `Terminated`, or was raised on its way out."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, Terminated):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


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
