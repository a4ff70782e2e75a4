"""Simulated specimens of two patterns."""

from itertools import pairwise

import numpy as np
import pytest

from hep2.data.simulator.cells import CLASSES
from hep2.data.simulator.mixed import Mixed, mixed_photographs, mixed_specimens
from hep2.data.sources import SyntheticSource
from hep2.errors import HEp2Error

SMALL = {"cells": 60, "specimens": 10}


def test_no_other_cell_changes() -> None:
    plain, mixed = SyntheticSource(**SMALL), SyntheticSource(**SMALL, mixed=[0.5])
    assert mixed.rows[:60] == plain.rows
    assert np.array_equal(np.stack([*mixed.images(32)])[:60], np.stack([*plain.images(32)]))
    assert plain.fingerprint() == SyntheticSource(**SMALL, mixed=()).fingerprint()
    assert plain.fingerprint() != mixed.fingerprint()


def test_every_pair_comes_in_every_share() -> None:
    source = SyntheticSource(**SMALL, mixed=[0.2, 0.5])
    more = source.rows[60:]
    assert len(more) == 2 * 20 * 6 == len([*source.images(16)]) - 60
    assert {row.pool for row in more} == {"test"}
    assert all(one.id < other.id for one, other in pairwise(source.rows))
    by_name: dict[str, list[str]] = {}
    for row in more:
        by_name.setdefault(row.specimen, []).append(row.label)
    assert len(by_name) == 40
    assert by_name["nucleolar+centromere-50"] == ["nucleolar"] * 3 + ["centromere"] * 3
    assert by_name["homogeneous+nucleolar-20"] == ["homogeneous"] * 5 + ["nucleolar"]


def test_its_cells_look_like_their_pattern_and_share_the_specimen_s_traits() -> None:
    """Homogeneous nuclei are brighter inside than nucleolar ones; the background is the same."""
    (images,) = mixed_photographs([Mixed(("homogeneous", "nucleolar"), 0.5, 40)], 32, seed=0)
    middle = images[:, 12:20, 12:20].mean(axis=(1, 2))
    assert np.median(middle[:20]) > 1.5 * np.median(middle[20:])
    (again,) = mixed_photographs([Mixed(("homogeneous", "nucleolar"), 0.5, 40)], 32, seed=0)
    assert np.array_equal(images, again)


@pytest.mark.parametrize("share", [0, 0.6, -1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(HEp2Error, match=f"mixed={share} is not a share"):
        mixed_specimens([0.3, share], 10)


def test_one_cell_at_least_shows_the_second() -> None:
    assert {one.second for one in mixed_specimens([0.01], 10)} == {1}
    assert len(CLASSES) * (len(CLASSES) - 1) == 20
