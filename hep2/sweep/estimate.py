"""How long jobs take, by those of their kind that have ended: what starts first, what is left."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from hep2.sweep.jobs import Job

Kind = tuple[Path, bool]  # stage and method; whether another fold's weights are taken


class Estimates:
    """Seconds of a sweep's jobs, better with every one that ends."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = {job.number: job for job in jobs}
        self.seen: dict[Kind, list[float]] = defaultdict(list)
        self.waiters: dict[int, list[int]] = defaultdict(list)  # who waits for a job
        for job in jobs:
            for number in job.needs:
                self.waiters[number].append(job.number)
        # Looked at five times a second for every job that waits.
        self.kinds = {job.number: self._kind(job) for job in jobs}

    def note(self, job: Job, seconds: float) -> None:
        """A job has ended well after so many seconds."""
        self.seen[self.kinds[job.number]].append(seconds)

    def of(self, job: Job) -> float | None:
        """The mean of its kind; None where none has ended yet."""
        seen = self.seen.get(self.kinds[job.number])
        return statistics.fmean(seen) if seen else None

    def longest_first(self, jobs: Iterable[Job]) -> list[Job]:
        """What has the longest way to the end of the sweep first, with all that waits for it.

        A job whose kind has not been timed counts a second an epoch: that orders the first jobs.
        Those that are equal stay in the order of the sweep.
        """

        @cache
        def way(number: int) -> float:
            job = self.jobs[number]
            own = self.of(job)
            guess = 0.0 if self.kinds[number][1] else float(job.epochs or 1)
            return (guess if own is None else own) + max(map(way, self.waiters[number]), default=0)

        return sorted(jobs, key=lambda job: -way(job.number))

    def left(
        self, running: Mapping[int, float | None], waiting: Sequence[Job], n_jobs: int
    ) -> tuple[float, bool]:
        """Seconds to the end of the sweep, and whether that is all: else it is at least so much.

        The greater of the work shared out to `n_jobs` and the longest way through it; jobs started
        the longest first need little more (Graham, SIAM J. Appl. Math. 17 (1969) 416).

        Args:
            running: seconds left of the jobs at work, by number; None where that is not known.
            waiting: the jobs that have not begun.
            n_jobs: how many run at a time.
        """
        known = dict(running) | {job.number: self.of(job) for job in waiting}

        @cache
        def way(number: int) -> float:
            after = (way(other) for other in self.waiters[number] if other in known)
            return (known[number] or 0.0) + max(after, default=0.0)

        work = sum(seconds or 0.0 for seconds in known.values())
        return max([work / n_jobs, *map(way, known)]), None not in known.values()

    def _kind(self, job: Job) -> Kind:
        kind = job.run.path.parents[1]
        return kind, any(self.jobs[number].run.path.parents[1] == kind for number in job.needs)
