"""The jobs of a sweep: what each one is, where it writes, and which ones it waits for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf

from hep2.config import plain
from hep2.errors import HEp2Error
from hep2.rundir.directory import RunDir, configuration_differences
from hep2.rundir.layout import needed_runs, pool_of, run_path
from hep2.trainer import check_trainer


@dataclass(frozen=True)
class Job:
    """One command line of a sweep."""

    number: int  # from 1, in the order of the sweep
    title: str  # the overrides that tell it from the sweep's other jobs
    overrides: tuple[str, ...]  # all of them, in Hydra's grammar
    cfg: DictConfig
    needs: tuple[int, ...] = ()  # numbers of the jobs that must have ended well before

    @cached_property
    def run(self) -> RunDir:
        """Where it writes."""
        return RunDir(run_path(self.cfg))

    @property
    def epochs(self) -> int | None:
        """How many epochs it trains, where the configuration says so."""
        epochs = OmegaConf.select(self.cfg, "trainer.max_epochs")
        return int(epochs) if isinstance(epochs, int) and epochs > 0 else None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do; HEp2Error where its directory holds another run."""
        if self.cfg.overwrite:
            return False
        self.run.check(self.cfg)
        return self.run.finished


def plan(overrides: Sequence[Sequence[str]], configurations: Sequence[DictConfig]) -> list[Job]:
    """Jobs out of a sweep's overrides and what they compose to.

    Jobs that come to one and the same run (stage 1 does not read the head, so that a sweep over
    heads has it many times) are one job.

    Raises:
        HEp2Error: two jobs would write different runs into one directory, or a setting of the
            trainer is refused.
    """
    constant = set.intersection(*(set(words) for words in overrides)) if overrides else set()
    jobs: dict[Path, Job] = {}
    for words, cfg in zip(overrides, configurations, strict=True):
        check_trainer(plain(cfg.trainer))
        path = run_path(cfg)
        if path in jobs:
            _check_same(jobs[path], cfg)
            continue
        title = " ".join(word for word in words if word not in constant) or path.as_posix()
        jobs[path] = Job(len(jobs) + 1, title, tuple(words), cfg)

    first: dict[Path, int] = {}  # of the jobs that learn from one pool, whatever their fold
    for path, job in jobs.items():
        needed = [jobs[run.path].number for run in needed_runs(job.cfg) if run.path in jobs]
        if (pool := pool_of(job.cfg)) and first.setdefault(pool, job.number) != job.number:
            needed.append(first[pool])
        jobs[path] = replace(job, needs=tuple(needed))
    return list(jobs.values())


def _check_same(first: Job, cfg: DictConfig) -> None:
    if differences := configuration_differences(plain(first.cfg), cfg):
        key, _, values = differences[0].partition(": ")
        there, _, asked = values.partition(" there, ")
        both = f"{key}={there} and {key}={asked.removesuffix(' asked')}"
        keys = [line.partition(": ")[0] for line in differences]
        told = next(filter(None, (_telling(first.cfg, cfg, key) for key in keys)), None)
        example = f", for example 'name={first.cfg.name}-${{{told}}}'" if told else ""
        raise HEp2Error(
            f"two jobs of this sweep would write into {first.run.path}, with {both}: "
            f"tell them apart by their names{example}"
        )


def _telling(one: DictConfig, other: DictConfig, key: str) -> str | None:
    """The key, or that of a list's entry, if its two values can stand in a folder's name."""
    first, second = OmegaConf.select(one, key), OmegaConf.select(other, key)
    if isinstance(first, ListConfig) and isinstance(second, ListConfig):
        pairs = enumerate(zip(first, second, strict=False))
        key, (first, second) = next(
            ((f"{key}.{place}", pair) for place, pair in pairs if pair[0] != pair[1]),
            (key, (None, None)),
        )
    good = all(re.fullmatch(r"[\w.+=,-]{1,50}", str(value)) for value in (first, second))
    return key if good and None not in (first, second) else None
