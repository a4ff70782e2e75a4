"""What a machine has, and what each of several jobs may use of it."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from omegaconf import DictConfig, ListConfig


def cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def wants_gpu(trainer: DictConfig) -> bool:
    """Whether a job trains on GPUs where there are any."""
    return trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda")


def processes(trainer: DictConfig, gpus: int) -> int:
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


def least_used(gpus: Sequence[str], taken: Sequence[str], wanted: int) -> list[str]:
    """Choose GPUs for a job: those with the fewest jobs on them, the first of equals."""
    return sorted(gpus, key=lambda gpu: (taken.count(gpu), gpus.index(gpu)))[:wanted]


def threads(cores: int, n_jobs: int, processes: int) -> int:
    """Threads for each process, so that all jobs together use every core once."""
    return max(1, cores // (n_jobs * processes))
