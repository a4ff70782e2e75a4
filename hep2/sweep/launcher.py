"""The launcher of `python train.py -m`: every job is a process of its own.

Lightning starts the other ranks of a run by running its command line again. Were all jobs run in
one process, that would be the whole sweep again, once a rank. A job that is a process with its own
command line has no such trouble, and jobs share neither memory nor a crash.
"""

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hep2 import cli
from hep2.config import program_flags
from hep2.errors import HEp2Error

if TYPE_CHECKING:
    from hep2.sweep.jobs import Job


class ProcessLauncher(Launcher):
    """Runs `n_jobs` processes at a time; exits with code 1 where one did not end well."""

    def __init__(self, n_jobs: int = 1, fail_fast: bool = False) -> None:
        self.n_jobs, self.fail_fast = n_jobs, fail_fast

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what composes the jobs' configurations."""
        self.loader, self.config = hydra_context.config_loader, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run one process for each list of overrides."""
        with cli.clear_errors():
            try:
                if not self._all_well(job_overrides):
                    sys.exit(1)
            except (HEp2Error, HydraException):
                raise
            except Exception:  # a bug, not a faulty command line
                traceback.print_exc()
                sys.exit(1)
        return [JobReturn(overrides=words, status=JobStatus.COMPLETED) for words in job_overrides]

    def _all_well(self, job_overrides: Sequence[Sequence[str]]) -> bool:
        from hep2.sweep.jobs import plan

        program = [sys.executable, sys.argv[0], *program_flags(self.config.hydra)]

        def command(job: "Job") -> list[str]:
            return [*program, *job.overrides]

        jobs = plan(job_overrides, [self._compose(words) for words in job_overrides])
        return run_jobs(jobs, command, self.n_jobs, self.fail_fast)

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        """What `train.py` gets to see with these overrides."""
        composed = self.loader.load_sweep_config(self.config, list(overrides))
        return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def run_jobs(
    jobs: "Sequence[Job]", command: "Callable[[Job], list[str]]", n_jobs: int, fail_fast: bool
) -> bool:
    """Run a plan on this machine and show how it goes; returns whether all ended well."""
    from rich.console import Console

    from hep2.sweep.forkserver import starter
    from hep2.sweep.processes import Resources, visible_gpus
    from hep2.sweep.schedule import Schedule
    from hep2.sweep.view import follow

    gpus = visible_gpus()
    start = starter(len(jobs) > 1, gpus)
    return follow(Schedule(jobs, command, n_jobs, fail_fast, Resources(gpus), start), Console())
