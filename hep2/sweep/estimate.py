"""How long jobs take, by those of their kind that have ended: what starts first, what is left."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from omegaconf import OmegaConf

from hep2.sweep.jobs import Job

Kind = tuple[Path, bool]  # stage and method; whether another fold's weights are taken

# Seconds an epoch of `stage.epochs`, by stage and method: CELLS simulated cells, one core. The own
# pace of a sweep, once jobs of it have ended, makes up for other data and another machine.
CELLS = 1884
USUAL = {
    "dcae-dcae": 4.8, "dcae_plus-dcae": 6.5, "dcae_plus_quick-dcae": 6.5, "dense_ae-dense_ae": 2.2,
    "cnn-dcae-mlp": 1.4, "cnn_plus-dcae-mlp": 1.4, "cnn-lenet-linear": 0.3,
    "ensemble-ensemble": 1.0,
    "head-dcae-mlp": 0.35, "head_plain-dcae-mlp_plain": 0.35, "head-dcae-linear": 0.13,
    "head-dcae_fisher-mlp": 0.6,
    "head-dcae_plus-mlp_means": 0.17, "head-dcae_plus_quick-mlp_means": 0.17,
    "head-dense_ae-mlp": 0.17, "head-codebook-nch": 0.17, "head-handcrafted-svm": 0.1,
    "head-pixels-chance": 0.03,
}  # fmt: skip
START = 2.0  # of every job
TAKEN = 5.0  # of a fold that takes another's weights, and only tests them
ENOUGH = 60.0  # seconds of jobs that tell a pace; so many at the usual pace count as seen already


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
        self.usual = {job.number: self._usual(job) for job in jobs}
        # What was to be expected of jobs that have ended, and what they took: of simulated cells
        # some is known beforehand.
        cells = OmegaConf.select(jobs[0].cfg, "data.source.cells") if jobs else None
        self.expected = ENOUGH if cells else 0.0
        self.took = ENOUGH * cells / CELLS if cells else 0.0

    def note(self, job: Job, seconds: float) -> None:
        """A job has ended well after so many seconds."""
        self.seen[self.kinds[job.number]].append(seconds)
        if (usual := self.usual[job.number]) is not None:
            self.expected, self.took = self.expected + usual, self.took + seconds

    def of(self, job: Job) -> float | None:
        """The mean of its kind; until one has ended what is usual, at the pace of the others.

        None where nothing is usual for it, or too little has ended to tell a pace.
        """
        if seen := self.seen.get(self.kinds[job.number]):
            return statistics.fmean(seen)
        usual = self.usual[job.number]
        if usual is None or self.expected < ENOUGH:
            return None
        return usual * self.took / self.expected

    def longest_first(self, jobs: Iterable[Job], running: Iterable[Job] = ()) -> list[Job]:
        """What has the longest way to the end of the sweep first, with all that waits for it.

        Jobs of which nothing is known count a second an epoch. Those that are equal stay in the
        order of the sweep. Before any has ended, the shortest of those that need nobody comes
        second: so there is soon a line in the table. Last come those of a kind of which one is at
        work and none has ended: it leaves in the cache what the folds share, and says how long
        they take.
        """
        first = {self.kinds[job.number] for job in running} - self.seen.keys()

        @cache
        def way(number: int) -> float:
            job = self.jobs[number]
            known = (self.of(job), self.usual[number], float(job.epochs or 1))
            own = next(seconds for seconds in known if seconds is not None)
            return own + max(map(way, self.waiters[number]), default=0)

        def place(job: Job) -> tuple[bool, float]:
            return self.kinds[job.number] in first, -way(job.number)

        ordered = sorted(jobs, key=place)
        if not self.seen and (free := [job for job in ordered[1:] if not job.needs]):
            shortest = min(free, key=lambda job: way(job.number))
            ordered.remove(shortest)
            ordered.insert(1, shortest)
        return ordered

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

    def _usual(self, job: Job) -> float | None:
        """Seconds on simulated cells; None where they are not known."""
        kind, takes = self.kinds[job.number]
        if takes:
            return TAKEN
        each = USUAL.get(kind.name)
        return None if each is None else START + each * (job.epochs or 1)

    def _kind(self, job: Job) -> Kind:
        kind = job.run.path.parents[1]
        return kind, any(self.jobs[number].run.path.parents[1] == kind for number in job.needs)
