"""What a sweep starts first, and what it says of the time that is left."""

from pathlib import Path

import pytest
from conftest import composed

from hep2.sweep.estimate import START, TAKEN, USUAL, Estimates
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
    # The encoder with its head; the other fold takes the weights. The shortest, for a first line.
    assert order(estimates, jobs) == [4, 1, 2, 3, 5, 6, 7]
    assert order(estimates, jobs[4:]) == [5, 6, 7] and order(estimates, []) == []
    estimates.note(jobs[0], 3.0)
    estimates.note(jobs[1], 4.0)
    assert order(estimates, jobs) == [4, 5, 6, 7, 2, 3, 1]


def test_a_kind_waits_for_its_first_where_others_can_start(jobs: list[Job]) -> None:
    estimates, waiting = Estimates(jobs), [jobs[number - 1] for number in (3, 5, 6, 7)]
    estimates.note(jobs[0], 3.0)
    after = [job.number for job in estimates.longest_first(waiting, [jobs[1], jobs[3]])]
    assert after == [5, 6, 7, 3]  # the second lenet is longer than a head, but its first is at work
    estimates.note(jobs[1], 50.0)
    assert [job.number for job in estimates.longest_first(waiting, [jobs[3]])] == [3, 5, 6, 7]


def usual(name: str, epochs: int) -> float:
    return START + epochs * USUAL[name]


def test_the_first_estimate_is_what_is_usual(jobs: list[Job]) -> None:
    estimates = Estimates(jobs)
    way = usual("dcae_plus-dcae", 60) + TAKEN + usual("head-dcae_plus-mlp_means", 40)
    assert estimates.left({}, jobs, 2) == (pytest.approx(way), True)
    chance, lenet = usual("head-pixels-chance", 40), usual("cnn-lenet-linear", 50)
    estimates.note(jobs[0], 17.0)  # it has waited for the cells: that says little
    assert estimates.of(jobs[1]) == pytest.approx(lenet * (60 + 17) / (60 + chance))
    estimates.note(jobs[1], 600.0)  # but that says much
    seconds, _ = estimates.left({}, jobs[3:], 2)
    assert seconds == pytest.approx(way * (60 + 17 + 600) / (60 + chance + lenet))


def test_of_other_data_nothing_is_known_beforehand(tmp_path: Path) -> None:
    lines = (*(f"experiment=cnn fold={fold}" for fold in range(3)), "experiment=chance")
    words = [(*line.split(), "data=folder", f"runs_dir={tmp_path}") for line in lines]
    jobs = plan(words, [composed(*line) for line in words])
    estimates = Estimates(jobs)
    estimates.note(jobs[3], 100.0)
    assert estimates.left({}, jobs[:3], 1) == (0.0, False)
    estimates.note(jobs[0], 580.0)
    assert estimates.left({}, jobs[1:3], 1) == (1160.0, True)


def test_what_is_left_is_the_work_or_the_longest_way(jobs: list[Job]) -> None:
    estimates = Estimates(jobs)
    for number, seconds in ((1, 2.0), (2, 20.0), (4, 300.0), (5, 4.0), (6, 10.0), (6, 14.0)):
        estimates.note(jobs[number - 1], seconds)
    assert estimates.of(jobs[6]) == 12.0
    waiting = [jobs[number - 1] for number in (2, 3, 5, 6, 7)]
    assert estimates.left({4: 100.0}, waiting, 2) == (100 + 4 + 12, True)
    assert estimates.left({4: 10.0}, waiting, 1) == (10 + 20 + 20 + 4 + 12 + 12, True)
    assert estimates.left({4: None}, waiting, 1) == (20 + 20 + 4 + 12 + 12, False)


def test_what_nobody_has_timed_is_not_guessed(tmp_path: Path) -> None:
    line = "experiment=cnn name=x stage.label=mine-cnn fold="
    words = [(*f"{line}{fold}".split(), f"runs_dir={tmp_path}") for fold in (0, 1)]
    known = ("experiment=chance", f"runs_dir={tmp_path}")
    words.append(known)
    jobs = plan(words, [composed(*each) for each in words])
    estimates = Estimates(jobs)
    estimates.note(jobs[2], 3.0)
    assert estimates.of(jobs[0]) is None and estimates.left({}, jobs[:2], 1) == (0.0, False)
    estimates.note(jobs[0], 30.0)
    assert estimates.left({}, jobs[1:2], 1) == (30.0, True)


def test_folds_that_take_weights_say_nothing_of_the_one_that_trains(jobs: list[Job]) -> None:
    estimates = Estimates(jobs)
    estimates.note(jobs[4], 4.0)
    assert estimates.of(jobs[4]) == 4.0
    assert estimates.of(jobs[3]) != 4.0
