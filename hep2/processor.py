"""What this machine computes with, and what makes it compute faster: precision, memory, threads.

Read from the system's files and not asked of torch, which takes seconds to import.
"""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # Linux alone; elsewhere nothing is known, and nothing chosen
GPUS = ("/dev/nvidiactl", "/dev/kfd")  # of NVIDIA's and of AMD's drivers
BF16 = {"avx512_bf16", "amx_bf16"}  # as Linux calls products of bf16
CONVOLVING = ("autoencoder", "supervised", "clustering")  # tasks that train on images
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 2**31 - 1  # bytes; mallopt takes an int


def best_precision(task: str, architecture: str, accelerator: str) -> str:
    """The precision of a training on this machine, where `trainer.precision` names none.

    bf16-mixed where the DCAE's convolutions are trained on a processor that multiplies bf16: 1.7
    times as fast as float32. A processor that does not is 4 to 16 times slower in it
    (pytorch/pytorch#183815), and small networks gain nothing: they stay in float32. So does what
    runs on a GPU, where trainer=gpu chooses.

    Args:
        task: `stage.task`.
        architecture: `model.architecture`.
        accelerator: `trainer.accelerator`; "auto" means the processor where no GPU is in sight.
    """
    convolves = task in CONVOLVING and architecture == "dcae"
    here = accelerator == "cpu" or (accelerator == "auto" and not any_gpu())
    return "bf16-mixed" if convolves and here and BF16 & flags() else "32-true"


def any_gpu() -> bool:
    """Whether Lightning's "auto" may find a GPU."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    return sys.platform == "darwin" or (not hidden and any(map(os.path.exists, GPUS)))


def flags() -> set[str]:
    """What the processor can do, by Linux's names; nothing where that is not known."""
    return set(_fields().get("flags", "").split())


def name() -> str:
    """What its maker calls it."""
    return _fields().get("model name", "not known")


def cores() -> int:
    """How many this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@cache
def _fields() -> dict[str, str]:
    """What Linux says of the first processor."""
    try:
        first = CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


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
    2 to 5 times faster when they slept. No number depends on it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when the library is loaded
