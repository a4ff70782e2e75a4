"""Memory that a training step frees is kept for the next one."""

import ctypes
import os
import sys

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
