"""What figures were measured on, and whether anything else was at work meanwhile."""

import contextlib
import ctypes
import os
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hep2 import processor

QUIET = 0.1  # cores that others may use
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd")  # the widest first


class Watch:
    """From its making to `told`: the machine, its load, and the cores that others kept busy."""

    def __init__(self) -> None:
        if sys.platform == "linux":  # jobs of a sweep are orphans when it ends, and count as ours
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.load, self.others = os.getloadavg()[0], _others()
        self.began = time.monotonic()

    def told(self) -> dict[str, Any]:
        """As results.json keeps it beside every row."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        others = _others()
        known = others is not None and self.others is not None
        return {
            "processor": processor.name(),
            "cores": processor.cores(),
            "instructions": next((word for word in INSTRUCTIONS if word in processor.flags()), ""),
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
            "load_before": round(self.load, 2),
            "load_after": round(os.getloadavg()[0], 2),
            "cores_of_others": round((others - self.others) / seconds, 2) if known else None,
            "torch": version("torch"),
        }


def warning(machine: dict[str, Any]) -> str | None:
    """A sentence where the figures say more of other processes than of this program."""
    others = machine["cores_of_others"]
    if others is None and machine["load_before"] > QUIET:
        return f"the machine was not quiet: its load was {machine['load_before']} at the start"
    if others is not None and others > QUIET:
        return f"the machine was not quiet: others kept {others:.2f} cores busy meanwhile"
    return None


def own_seconds() -> float:
    """Seconds that the processor was busy for this process and all below it that have ended."""
    with contextlib.suppress(ChildProcessError):  # there is none
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in own)


def _others() -> float | None:
    """Seconds that it was busy for others."""
    try:
        first = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:  # not Linux
        return None
    user, nice, system, _, _, irq, softirq = (int(ticks) for ticks in first[:7])
    busy = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    return busy - own_seconds()
