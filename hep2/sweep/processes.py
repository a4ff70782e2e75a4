"""Processes of a sweep: none outlives the one that started it."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from omegaconf import DictConfig, ListConfig

from hep2.config import IN_SWEEP

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 2**31 - 1  # bytes; mallopt takes an int


def keep_freed_memory() -> None:
    """Stop glibc from handing the activations of a step back to the kernel. Call before torch.

    glibc maps blocks beyond 32 MB anew each time and returns what is free at the heap's end; the
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


PARENT = "HEP2_PARENT"  # the process that this one shall not outlive
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
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        answer = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = [line for line in answer.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(gpus))]


class Resources:
    """The cores and GPUs of a machine, shared out to the jobs of a sweep.

    Args:
        gpus: what CUDA_VISIBLE_DEVICES may name.
        cores: of the processor; None: those that this process may use.
    """

    def __init__(self, gpus: Sequence[str] = (), cores: int | None = None) -> None:
        self.gpus = list(gpus)
        if cores is None:
            affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
            cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        self.cores = cores

    def share(
        self, trainer: DictConfig, n_jobs: int, taken: Sequence[str]
    ) -> tuple[dict[str, str], list[str]]:
        """What a job may use; a user's own variables win.

        Args:
            trainer: the job's `trainer` group.
            n_jobs: how many jobs share the cores.
            taken: GPUs of the jobs at work, as often as there are jobs on each.

        Returns:
            Environment variables, and the GPUs: those with the fewest jobs, the first of equals.
        """
        wants_gpu = trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda")
        available = self.gpus if wants_gpu else []
        processes = processes_of(trainer, len(available))
        environment = {}
        if "OMP_NUM_THREADS" not in os.environ:  # all jobs together use every core once
            environment["OMP_NUM_THREADS"] = str(max(1, self.cores // (n_jobs * processes)))
        gpus = sorted(available, key=lambda gpu: (taken.count(gpu), available.index(gpu)))
        gpus = gpus[:processes]
        if gpus and not isinstance(trainer.devices, ListConfig):  # a list names them by itself
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        return environment, gpus


def processes_of(trainer: DictConfig, gpus: int) -> int:
    """How many processes a job has on this machine: one a device.

    Args:
        trainer: the job's `trainer` group; `devices` is a number, a list, "auto" or -1 (all).
        gpus: how many there are; 0 also for a job that wants none.
    """
    devices = trainer.get("devices", 1)
    if isinstance(devices, list | ListConfig):
        return len(devices)
    text = str(devices)
    return int(text) if text.isdigit() and text != "0" else max(gpus, 1)
