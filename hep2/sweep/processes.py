"""Processes of a sweep: none outlives the one that started it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from omegaconf import DictConfig, ListConfig

from hep2 import processor
from hep2.config import IN_SWEEP, ONE_RUN

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 2**31 - 1  # bytes; mallopt takes an int


def keep_freed_memory() -> None:
    """Stop glibc from handing the activations of a step back to the kernel. Call before torch.

    glibc maps blocks beyond 32 MB again each time and returns what is free at the heap's end; the
    kernel must zero every page again, which costs a training step on a CPU about a tenth of its
    time. Nothing is done on other C libraries. Large tensors also get huge pages (2 MB), unless
    the environment says otherwise.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch at its first tensor
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, LARGEST)
        mallopt(M_MMAP_THRESHOLD, 1 << 30)


def wait_asleep() -> None:
    """Let threads that wait for each other sleep, and not spin. Call before torch.

    Spinning saves microseconds on a quiet machine. Beside other busy processes each thread spins
    away the time in which the other could work: two threads were 6 to 15 times as slow as one, and
    2 to 5 times faster when they slept. No number hangs on it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when the library is loaded


PARENT = "HEP2_PARENT"  # the process that this one shall not outlive
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


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


def environment_of_job(own: Mapping[str, str]) -> dict[str, str]:
    """The environment of a job: this process's, the job's own, and what tells whose job it is."""
    marks = {PARENT: str(os.getpid()), IN_SWEEP: "1", "PYTHONUNBUFFERED": "1"}
    whole = {**os.environ, **own, **marks}
    return {name: value for name, value in whole.items() if name not in ONE_RUN}


def start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> tuple[Started, int]:
    """Start a job in a process group of its own; its output is appended to a log file.

    Returns the process and the length of the log before it.

    Raises:
        OSError: the log cannot be written.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        before = output.tell()
        process = subprocess.Popen(
            command,
            env=environment_of_job(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, before


def stop(processes: Sequence[Started], patience: float = 5.0) -> None:
    """Ask process groups to end, and end those that do not within `patience` seconds."""
    for process in processes:
        signal_group(process, signal.SIGTERM)
    until = time.monotonic() + patience
    try:
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
    finally:  # a second Ctrl-C comes here as well
        for process in processes:
            signal_group(process, signal.SIGKILL)  # also what the group's leader left behind
            process.wait()


def signal_group(process: Started, number: signal.Signals = signal.SIGKILL) -> None:
    """Signal all of a process's group; also what one that has ended may have left of it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that jobs may see, as CUDA_VISIBLE_DEVICES names them.

    Asked of the driver's own tool: importing torch would take seconds, and a process that has
    touched a GPU holds some of its memory.
    """
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):  # also where there is no such tool
        return []
    gpus = [line for line in answer.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(gpus))]


class Resources:
    """Cores (None: those that this process may use) and GPUs, shared out to the jobs of a sweep."""

    def __init__(self, gpus: Sequence[str] = (), cores: int | None = None) -> None:
        self.gpus, self.cores = list(gpus), processor.cores() if cores is None else cores

    def share(
        self, trainer: DictConfig, n_jobs: int, taken: Sequence[str]
    ) -> tuple[dict[str, str], list[str]]:
        """A job's environment variables (a user's own win), and the GPUs with the fewest jobs.

        Args:
            trainer: the job's `trainer` group.
            n_jobs: how many jobs share the cores.
            taken: GPUs of the jobs at work, as often as there are jobs on each.
        """
        wants_gpu = trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda")
        available = self.gpus if wants_gpu else []
        processes = processes_of(trainer, len(available))
        environment = {}
        if "OMP_NUM_THREADS" not in os.environ:  # all jobs together use every core once
            environment["OMP_NUM_THREADS"] = str(max(1, self.cores // (n_jobs * processes)))
        gpus = sorted(available, key=taken.count)[:processes]  # the first of equals
        if gpus and not isinstance(trainer.devices, ListConfig):  # a list names them by itself
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        return environment, gpus


def processes_of(trainer: DictConfig, gpus: int) -> int:
    """How many processes a job has on this machine with this many GPUs (0: or it wants none).

    One a device: `trainer.devices` is a number, a list, "auto" or -1 (all).
    """
    devices = trainer.get("devices", 1)
    if isinstance(devices, list | ListConfig):
        return len(devices)
    text = str(devices)
    return int(text) if text.isdigit() and text != "0" else max(gpus, 1)
