"""Jobs of a sweep, forked from a process that has imported everything.

The imports of a run take a core five to eight seconds, longer than many a head learns. Here they
are done once for all jobs of a sweep, by the fork server of Python's multiprocessing. Each job is
a process of its own all the same, with its own environment, output, process group and exit code,
and runs `train.py` from its first line, as if it had been started by its command line.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

from hep2.signals import PARENT
from hep2.sweep import processes
from hep2.sweep.processes import Start, Started

THREADS = "OMP_NUM_THREADS"  # read where the libraries are loaded: one value for all forked jobs


class ForkServer:
    """Starts jobs as `hep2.sweep.processes.start` does, only sooner; the server imports `preload`.

    Not for jobs that see a GPU: whatever touches CUDA before a fork breaks it behind the fork.
    """

    def __init__(self, preload: Sequence[str] = ("hep2.sweep.forkserver_preload",)) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(preload))
        self.threads: str | None = None

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> tuple[Started, int]:
        """Start a job: `command` is [interpreter, program, arguments ...]."""
        whole = processes.environment_of_job(environment)
        wanted = whole.get(THREADS, "")
        if self.threads not in (None, wanted):
            return processes.start(command, environment, log)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            before = output.tell()
        child = self.context.Process(target=_become, args=(list(command[1:]), whole, str(log)))
        # The first start starts the server, which inherits the environment. The program of this
        # process is hidden: a child would import it again, and has one of its own.
        kept, program = dict(os.environ), sys.modules["__main__"]
        os.environ.update(whole)
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            child.start()
        except (EOFError, ConnectionError):  # the server has died; the next start makes another
            return processes.start(command, environment, log)
        finally:
            sys.modules["__main__"] = program
            os.environ.clear()
            os.environ.update(kept)
        self.threads = wanted
        return Forked(child), before


class Forked:
    """A forked process, with the part of `subprocess.Popen` that a sweep needs."""

    def __init__(self, child: BaseProcess) -> None:
        self.child = child
        assert child.pid is not None
        self.pid = child.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        return self.child.exitcode

    returncode = property(poll)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end; raises `subprocess.TimeoutExpired` as Popen does."""
        self.child.join(timeout)
        if timeout is not None and self.child.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self.child.exitcode


def _become(words: list[str], environment: dict[str, str], log: str) -> None:
    """In the forked process: become the job."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the server has a handler
    server = os.environ[PARENT]  # it named itself, and ends with the sweep
    os.environ.clear()
    os.environ.update({**environment, PARENT: server})
    with open(os.devnull, "rb") as nothing, open(log, "ab") as output:
        for stream, file in ((0, nothing), (1, output), (2, output)):
            os.dup2(file.fileno(), stream)
    for text in (sys.stdout, sys.stderr):
        text.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv = words
    # Exit handlers are not run behind it: those of the server (W&B's folder for pictures) would be.
    runpy.run_path(words[0], run_name="__main__")


def starter(several: bool, gpus: Sequence[str]) -> Start:
    """How jobs are best started: forked where there are several, and no GPU is in sight."""
    # Elsewhere than on Linux the system's own libraries do not bear a fork.
    forks = sys.platform == "linux" and several and not gpus
    return _server().start if forks else processes.start


_server = cache(ForkServer)
