"""What held-out specimens teach a run, and how it is kept."""

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hep2.calls.answer import call
from hep2.calls.calibration import (
    FEWEST,
    HeldOut,
    calibrated,
    together,
)
from hep2.calls.record import as_record, from_record
from hep2.errors import HEp2Error

CLASSES = ("a", "b", "c")


def held(specimens: int = 24, cells: int = 10, sharpness: float = 2.0, seed: int = 0) -> HeldOut:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(specimens) % 3, cells)
    owner = np.repeat(np.arange(specimens), cells)
    logits = rng.normal(0, 1, (len(labels), 3)) + 1.5 * np.eye(3)[labels]
    logits += rng.normal(0, 0.7, (specimens, 3))[owner]
    shares = np.exp(sharpness * logits)
    shares /= shares.sum(axis=1, keepdims=True)
    names = np.array([f"s{number:02d}" for number in owner])
    return HeldOut(np.arange(len(labels)).astype(str), names, labels, shares, "made up")


def test_what_it_learns() -> None:
    cells = held()
    found = calibrated(cells, [0.1, 0.2], 10)
    assert not isinstance(found, str)
    assert 1.2 < found.temperature < 4, "as sharp as they were made"
    assert (found.specimens, found.cells, found.how) == (24, 240, "made up")
    wide, narrow = found.limits
    assert (wide.alpha, narrow.alpha) == (0.1, 0.2)
    assert not wide.own.any() and narrow.own.all(), "8 specimens a pattern"
    scaled = found.scaled(cells.probabilities)
    within = 1 - scaled[np.arange(240), cells.labels] <= wide.cells[cells.labels]
    assert 0.9 <= within.mean() < 0.97
    second = []
    for name in np.unique(cells.specimens):
        votes = np.bincount(scaled[cells.specimens == name].argmax(axis=1), minlength=3) / 10
        second.append(np.sort(votes)[-2])
    assert np.mean(np.array(second) >= found.second_share) <= 0.1, "of pure specimens"
    assert found.second_share <= 0.5


def test_too_few_specimens_teach_nothing() -> None:
    said = calibrated(held(FEWEST - 1), [0.1], 10)
    assert isinstance(said, str) and f"{FEWEST - 1} specimens were held out" in said
    assert not isinstance(calibrated(held(FEWEST), [0.1], 10), str)
    assert as_record(said, CLASSES) == {"method": "none", "how": said}
    assert from_record({"method": "none"}, CLASSES) is None
    assert from_record(None, CLASSES) is None, "a run of an earlier version"


def test_few_specimens_promise_nothing_at_a_small_alpha() -> None:
    found = calibrated(held(12), [0.1, 0.05], 10)
    assert not isinstance(found, str)
    assert np.isfinite(found.limits[0].specimens).all()
    assert np.isinf(found.limits[1].specimens).all() and np.isinf(found.limits[1].cells).all()


def test_it_is_read_back_as_it_was_written() -> None:
    found = calibrated(held(12), [0.1, 0.05], 7)
    record = json.loads(json.dumps(as_record(found, CLASSES), allow_nan=False))
    again = from_record(record, CLASSES)
    assert not isinstance(found, str) and again is not None
    assert again.temperature == found.temperature and again.second_share == found.second_share
    assert (again.fewest_cells, again.specimens, again.how) == (7, 12, "made up")
    for one, other in zip(found.limits, again.limits, strict=True):
        assert one.alpha == other.alpha and np.array_equal(one.own, other.own)
        assert np.array_equal(one.cells, other.cells)
        assert np.array_equal(one.specimens, other.specimens)
    assert record["sets"][1]["cells"] == dict.fromkeys(CLASSES), "no finite limit"


def places(record: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a record, itself included."""
    yield here
    for key in record if isinstance(record, dict) else ():
        yield from places(record[key], (*here, key))
    for at, one in enumerate(record if isinstance(record, list) else ()):
        yield from places(one, (*here, at))


SPOILT = (0, -1, -0.5, 1.5, 2, 1e300, 10**20, math.inf, -math.inf, math.nan, None, True, "hot", "1",
          "", [], {}, [1], {"a": 1}, [None], "abc")  # fmt: skip


@pytest.mark.parametrize("value", SPOILT, ids=repr)
def test_every_value_that_cannot_be_is_refused_in_a_sentence(value: object) -> None:
    """What is read with another value in it is one that could have been written, or an error."""
    good = as_record(calibrated(held(), [0.1, 0.2], 10), CLASSES)
    refused = 0
    for way in places(good):
        record: Any = {"root": copy.deepcopy(good)}
        inner = record
        for key in (steps := ("root", *way))[:-1]:
            inner = inner[key]
        inner[steps[-1]] = value
        try:
            found = from_record(record["root"], CLASSES)
        except HEp2Error as error:
            refused += 1
            assert str(error).startswith("key calibration") and len(str(error)) < 120
            continue
        assert found is None or as_record(found, CLASSES) == record["root"], way
        if found:
            scaled = found.scaled(held().probabilities)
            assert np.isfinite(scaled).all() and np.isfinite(found.second_share)
            assert call(scaled[:12], found).members is not None
    assert refused > 10


@pytest.mark.parametrize("cut", ["temperature", "how", "sets", "second_share", "method", "cells"])
def test_a_key_that_is_missing_is_named(cut: str) -> None:
    record = as_record(calibrated(held(), [0.1], 10), CLASSES)
    del record[cut]
    with pytest.raises(HEp2Error, match=f"key calibration lacks {cut}"):
        from_record(record, CLASSES)
    damaged = as_record(calibrated(held(), [0.1], 10), CLASSES)
    del damaged["sets"][0]["cells"]["b"]
    with pytest.raises(HEp2Error, match=r"key calibration\.sets\[0\]\.cells lacks b"):
        from_record(damaged, CLASSES)
    with pytest.raises(HEp2Error, match="lacks d"):
        from_record(as_record(calibrated(held(), [0.1], 10), CLASSES), (*CLASSES, "d"))


def test_several_runs_together_have_the_widest_limits() -> None:
    several = [calibrated(held(seed=seed), [0.1], 5 + seed) for seed in (1, 2, 3)]
    whole = together(several)  # type: ignore[arg-type]
    for part in ("cells", "specimens"):
        each = [getattr(one.limits[0], part) for one in several]  # type: ignore[union-attr]
        assert np.array_equal(getattr(whole.limits[0], part), np.max(each, axis=0))
    assert (whole.temperature, whole.fewest_cells) == (1.0, 8)

    assert together(several[:1]).temperature == several[0].temperature  # type: ignore
