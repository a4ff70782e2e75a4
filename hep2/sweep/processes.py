"""Processes of a sweep: none outlives the one that started it."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from omegaconf import DictConfig, ListConfig

from hep2 import processor
from hep2.config import IN_SWEEP, ONE_RUN
from hep2.signals import PARENT


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
