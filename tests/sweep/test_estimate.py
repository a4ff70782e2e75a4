"""What a sweep starts first, and what it says of the time that is left."""

from pathlib import Path

import pytest
from conftest import composed

from hep2.sweep.estimate import Estimates
from hep2.sweep.jobs import Job, plan

LINES = (
    "experiment=chance fold=0",
    "experiment=lenet stage.epochs=50 fold=0",
    "experiment=lenet stage.epochs=50 fold=1",
    "experiment=dcae_plus stage=dcae_plus fold=0",
    "experiment=dcae_plus stage=dcae_plus fold=1",
    "experiment=dcae_plus fold=0",
    "experiment=dcae_plus fold=1",
)  # numbered from 1


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    words = [(*line.split(), "protocol=published", f"runs_dir={tmp_path}") for line in LINES]
    return plan(words, [composed(*line) for line in words])


def order(estimates: Estimates, jobs: list[Job]) -> list[int]:
    return [job.number for job in estimates.longest_first(jobs)]


def test_what_others_wait_for_and_what_is_long_comes_first(jobs: list[Job]) -> None:
    estimates = Estimates(jobs)
    # 60 epochs of the encoder and 40 of its head; the other fold takes the weights.
    assert order(estimates, jobs) == [4, 2, 3, 1, 5, 6, 7]
    estimates.note(jobs[0], 3.0)
    estimates.note(jobs[1], 20.0)
    assert order(estimates, jobs) == [4, 5, 6, 7, 2, 3, 1]


def test_what_is_left_is_the_work_or_the_longest_way(jobs: list[Job]) -> None:
    estimates = Estimates(jobs)
    assert estimates.left({}, jobs, 2) == (0.0, False)
    for number, seconds in ((1, 2.0), (2, 20.0), (4, 300.0), (5, 4.0), (6, 10.0), (6, 14.0)):
        estimates.note(jobs[number - 1], seconds)
    assert estimates.of(jobs[6]) == 12.0
    waiting = [jobs[number - 1] for number in (2, 3, 5, 6, 7)]
    assert estimates.left({4: 100.0}, waiting, 2) == (100 + 4 + 12, True)
    assert estimates.left({4: 10.0}, waiting, 1) == (10 + 20 + 20 + 4 + 12 + 12, True)
    assert estimates.left({4: None}, waiting, 1) == (20 + 20 + 4 + 12 + 12, False)


def test_folds_that_take_weights_say_nothing_of_the_one_that_trains(jobs: list[Job]) -> None:
    estimates = Estimates(jobs)
    estimates.note(jobs[4], 4.0)
    assert estimates.of(jobs[3]) is None and estimates.of(jobs[4]) == 4.0
