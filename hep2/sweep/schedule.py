"""Runs the jobs of a sweep: what may start does, the longest first; a failure stops nobody."""

import contextlib
import signal
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from hep2.errors import HEp2Error
from hep2.files import holder
from hep2.sweep.estimate import Estimates
from hep2.sweep.jobs import Job
from hep2.sweep.processes import Resources, Start, Started, signal_group, start, stop

GOOD = ("done", "finished already")
PAUSE = 0.2  # seconds between two looks at the processes
MEANINGS = {  # of exit codes
    -9: "killed (SIGKILL: out of memory, or another rank of it died)",
    2: "its command line is wrong",
}
# It was asked to end (Ctrl-C, SIGTERM), and said so or not: nothing is wrong, and nothing is lost.
ASKED = (130, 143, -signal.SIGINT, -signal.SIGTERM)


@dataclass(frozen=True)
class Outcome:
    """How a job of a sweep ended."""

    job: Job
    # done, finished already, failed, interrupted (from outside), skipped (what it needs did not end
    # well) or stopped (by the sweep)
    state: str
    reason: str = ""  # why it is not done
    seconds: float = 0.0  # how long its process ran
    log_from: int | None = None  # where this attempt begins in its log; None: it was not started

    @property
    def good(self) -> bool:
        """Whether its result is there."""
        return self.state in GOOD


@dataclass
class Running:
    """A job whose process is alive."""

    job: Job
    process: Started
    gpus: list[str]
    log_from: int
    since: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class Schedule:
    """The state of a sweep, driven by `steps`."""

    jobs: Sequence[Job]  # as `plan` made them
    command: Callable[[Job], list[str]]  # the command line of a job
    n_jobs: int = 1  # at most this many processes at a time
    fail_fast: bool = False  # the first failure stops all others
    resources: Resources = field(default_factory=Resources)  # what the jobs share
    start: Start = start

    def __post_init__(self) -> None:
        if self.n_jobs < 1:
            raise HEp2Error(f"hydra.launcher.n_jobs={self.n_jobs} must be 1 or more")
        self.estimates = Estimates(self.jobs)
        self.waiting: list[Job] = list(self.jobs)
        self.running: list[Running] = []
        self.outcomes: dict[int, Outcome] = {}
        self.held: dict[int, str] = {}  # by job: who else is at work in its directory

    def steps(self) -> Generator[list[Outcome], None, None]:
        """Drive the sweep to its end; yields what has ended since the last look.

        Whoever stops listening, by Ctrl-C or an error, stops the jobs as well.
        """
        try:
            yield self._look_over()
            while self.waiting or self.running:
                ended = self._reap()
                if not self._must_end(ended):
                    ended += self._start()
                if self._must_end(ended):
                    ended += self._stop("another job failed, and fail_fast=true")
                yield ended
                if not ended:
                    time.sleep(PAUSE)
        finally:
            self._stop("the sweep was interrupted")

    def _must_end(self, ended: Sequence[Outcome]) -> bool:
        return self.fail_fast and any(outcome.state == "failed" for outcome in ended)

    def _reap(self) -> list[Outcome]:
        ended = []
        for one in list(self.running):
            if (code := one.process.poll()) is None:
                continue
            self.running.remove(one)
            signal_group(one.process)  # what it may have left
            state, reason = _ended(code, one.job.run.finished)
            if state == "failed":
                one.job.run.record_failure(reason)  # where the job itself could say nothing
            if state == "interrupted":
                one.job.run.forget_failure()  # a rank whose peer has ended calls it an error
            seconds = time.monotonic() - one.since
            if state == "done":
                self.estimates.note(one.job, seconds)
            ended.append(self._end(Outcome(one.job, state, reason, seconds, one.log_from)))
        return ended

    def _look_over(self) -> list[Outcome]:
        """Name what is finished already before anything is started.

        What is not gets its directory now: one that stays empty says what is still missing.
        """
        ended = []
        for job in list(self.waiting):
            with contextlib.suppress(HEp2Error):  # reported when its turn comes
                if job.finished:
                    ended.append(self._end(Outcome(job, "finished already")))
        for job in self.waiting:
            with contextlib.suppress(OSError):
                job.run.path.mkdir(parents=True, exist_ok=True)
        return ended

    def _start(self) -> list[Outcome]:
        ended = []
        at_work = [one.job for one in self.running]
        for job in self.estimates.longest_first(self.waiting, at_work):
            needed = [self.outcomes[number] for number in job.needs if number in self.outcomes]
            outcome = None
            if lost := [one.job for one in needed if not one.good]:
                reason = f"#{lost[0].number} {lost[0].title}, which it needs, did not end well"
                outcome = Outcome(job, "skipped", reason)
            elif len(needed) == len(job.needs) and len(self.running) < self.n_jobs:
                outcome = self._launch(job)
            if outcome is not None:
                ended.append(self._end(outcome))
        return ended

    def _launch(self, job: Job) -> Outcome | None:
        """Start a job, unless somebody else is at work on it; its outcome where it is known."""
        self.held.pop(job.number, None)
        if who := holder(job.run.lock):
            self.held[job.number] = who
            return None
        try:
            if job.finished:  # by somebody else, since this sweep began
                return Outcome(job, "finished already")
            taken = [gpu for one in self.running for gpu in one.gpus]
            environment, gpus = self.resources.share(job.cfg.trainer, self.n_jobs, taken)
            process, log_from = self.start(self.command(job), environment, job.run.log)
        except HEp2Error as error:
            return Outcome(job, "failed", str(error))
        except OSError as error:
            return Outcome(job, "failed", f"it cannot be started: {error}")
        self.waiting.remove(job)
        self.running.append(Running(job, process, gpus, log_from))
        return None

    def _end(self, outcome: Outcome) -> Outcome:
        self.outcomes[outcome.job.number] = outcome
        if outcome.job in self.waiting:
            self.waiting.remove(outcome.job)
        return outcome

    def _stop(self, reason: str) -> list[Outcome]:
        stop([one.process for one in self.running])
        for one in self.running:
            one.job.run.forget_failure()  # a rank whose peer was stopped calls it an error
        jobs = [one.job for one in self.running] + self.waiting
        self.running = []
        return [self._end(Outcome(job, "stopped", reason)) for job in jobs]


def _ended(code: int, finished: bool) -> tuple[str, str]:
    """State and reason of a job that ended with this exit code, with a result or without."""
    if code in ASKED:
        return "interrupted", "it was asked to end; the same command goes on"
    if code:
        other = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
        return "failed", MEANINGS.get(code, other)
    return ("done", "") if finished else ("failed", "it ended without a result")
