from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from conftest import Configure
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from omegaconf import open_dict

from hep2.data.cells import Indices
from hep2.data.fold import open_fold
from hep2.data.protocols import Split, few_labels, fold_count, make_split
from hep2.errors import HEp2Error


@dataclass(frozen=True)
class Grouping:
    """What protocols read of a data set."""

    labels: NDArray[np.int64]
    specimens: NDArray[np.str_]
    pools: NDArray[np.str_]
    sources: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, np.str_))


DISJOINT = ("published", "specimen", "loso")
PATTERNS = 5


@st.composite
def data_sets(draw: Callable[..., Any], mixed: bool = True, least: int = 1) -> Grouping:
    """Specimens of random patterns and sizes, each in one pool, rows in random order.

    With fewer than five cells in a specimen a random fold of cells may be empty.
    """
    specimen = st.tuples(
        st.integers(0, PATTERNS - 1), st.integers(least, 8), st.sampled_from([0, 1])
    )
    rows = draw(st.lists(specimen, min_size=5, max_size=24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = np.repeat([pattern for pattern, _, _ in rows], [cells for _, cells, _ in rows])
    names = np.repeat([f"s{n:02d}" for n in range(len(rows))], [cells for _, cells, _ in rows])
    pools = [("train", "test")[n if n < 2 else pool] for n, (_, _, pool) in enumerate(rows)]
    pools = np.repeat(pools, [cells for _, cells, _ in rows])
    if mixed and draw(st.booleans()):
        labels = np.where(rng.random(len(labels)) < 0.1, rng.integers(PATTERNS), labels)
    order = rng.permutation(len(labels))
    return Grouping(labels[order].astype(np.int64), names[order], pools[order])


def grouping(specimens_of: dict[int, int], cells: int = 4, pools: bool = True) -> Grouping:
    """Pure specimens of equal size; those with even numbers are in the pool `train`."""
    owners = [(p, f"p{p}s{n}", n) for p, count in specimens_of.items() for n in range(count)]
    return Grouping(
        np.repeat([pattern for pattern, _, _ in owners], cells).astype(np.int64),
        np.repeat([name for _, name, _ in owners], cells),
        np.repeat([("train", "test")[n % 2] if pools else "" for _, _, n in owners], cells),
    )


def split_of(cells: Grouping, protocol: str, fold: int = 0, **settings: Any) -> Split:
    return make_split(
        cells, protocol, fold, **{"folds": 5, "validation": 0.2, "seed": 0} | settings
    )


def names(cells: Grouping, part: Indices) -> set[str]:
    return set(cells.specimens[part].tolist())


def all_folds(cells: Grouping, protocol: str, **settings: Any) -> list[Split]:
    count = fold_count(protocol, settings.get("folds", 5), cells)
    return [split_of(cells, protocol, fold, **settings) for fold in range(count)]


any_seed = st.integers(0, 1000)
any_share = st.sampled_from([0, 0.2, 0.5, 0.9])


@settings(deadline=None)
@given(data_sets(), st.sampled_from(DISJOINT), any_share, any_seed)
def test_no_specimen_stands_in_two_parts(
    cells: Grouping, protocol: str, share: float, seed: int
) -> None:
    for split in all_folds(cells, protocol, validation=share, seed=seed):
        train, val, test = (names(cells, part) for part in (split.train, split.val, split.test))
        assert train.isdisjoint(val) and train.isdisjoint(test) and val.isdisjoint(test)
        assert train and test


@settings(deadline=None)
@given(data_sets(least=5), st.sampled_from([*DISJOINT, "random", "pools"]), any_share, any_seed)
def test_parts_are_sorted_and_share_no_cell(
    cells: Grouping, protocol: str, share: float, seed: int
) -> None:
    split = split_of(cells, protocol, validation=share, seed=seed)
    together = np.concatenate([split.train, split.val, split.test])
    assert len(np.unique(together)) == len(together)
    for part in (split.train, split.val, split.test):
        assert np.array_equal(part, np.sort(part))
    if protocol != "published":  # which takes half of each pool
        assert len(together) == len(cells.labels)


@settings(deadline=None)
@given(data_sets(least=5), st.sampled_from(["specimen", "loso", "random"]), any_seed)
def test_every_cell_is_tested_in_exactly_one_fold(
    cells: Grouping, protocol: str, seed: int
) -> None:
    tested = np.concatenate([split.test for split in all_folds(cells, protocol, seed=seed)])
    assert np.array_equal(np.sort(tested), np.arange(len(cells.labels)))


@settings(deadline=None)
@given(data_sets(), st.sampled_from(["specimen", "loso"]), any_seed)
def test_the_order_of_rows_moves_no_specimen(cells: Grouping, protocol: str, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(cells.labels))
    moved = Grouping(cells.labels[order], cells.specimens[order], cells.pools[order])
    for split, other in zip(
        all_folds(cells, protocol, seed=seed), all_folds(moved, protocol, seed=seed), strict=True
    ):
        for part in ("train", "val", "test"):
            assert np.array_equal(np.sort(order[getattr(other, part)]), getattr(split, part))


@settings(deadline=None)
@given(data_sets(mixed=False), st.sampled_from(DISJOINT), any_share, any_seed)
def test_validation_leaves_two_training_specimens_of_each_pattern_or_takes_none(
    cells: Grouping, protocol: str, share: float, seed: int
) -> None:
    split = split_of(cells, protocol, validation=share, seed=seed)
    learning = np.union1d(split.train, split.val)
    without = 0
    for pattern in np.unique(cells.labels[learning]):
        of_pattern = cells.labels == pattern
        train, val, both = (
            names(cells, part[of_pattern[part]]) for part in (split.train, split.val, learning)
        )
        assert train | val == both
        assert not val or len(train) >= 2
        assert bool(val) == (share > 0 and len(both) >= 3)
        without += not val
    assert bool(split.note) == bool(without)
    if share and without:
        assert split.note.startswith(f"{without} pattern(s) with fewer than three")


def test_validation_takes_the_asked_share_of_specimens() -> None:
    cells = grouping({0: 10, 1: 10})
    split = split_of(cells, "specimen", folds=2, validation=0.4)
    for pattern in (0, 1):
        in_val = split.val[cells.labels[split.val] == pattern]
        assert len(names(cells, in_val)) == 2  # of five
    assert split.note == ""
    assert "fixed number of epochs" in split_of(cells, "specimen", validation=0).note


def test_a_specimens_validation_and_a_cells_validation_when_leaky() -> None:
    cells = grouping({0: 10, 1: 10}, cells=10)
    split = split_of(cells, "random")
    assert (len(split.train), len(split.val), len(split.test)) == (128, 32, 40)
    assert names(cells, split.val) & names(cells, split.train)


@pytest.mark.parametrize("protocol", ["published", "specimen", "random"])
def test_the_seed_moves_the_folds_and_repeats_them(protocol: str) -> None:
    cells = grouping({pattern: 8 for pattern in range(5)})
    first, again, other = (split_of(cells, protocol, seed=seed) for seed in (0, 0, 1))
    for part in ("train", "val", "test"):
        assert np.array_equal(getattr(first, part), getattr(again, part))
        assert not np.array_equal(getattr(first, part), getattr(other, part))


def test_patterns_are_spread_evenly_over_the_folds() -> None:
    cells = grouping({0: 15, 1: 10, 2: 5})
    for split in all_folds(cells, "specimen"):
        counts = [len(names(cells, split.test[cells.labels[split.test] == p])) for p in range(3)]
        assert counts == [3, 2, 1]
    for split in all_folds(cells, "random"):
        assert np.bincount(cells.labels[split.test]).tolist() == [12, 8, 4]


def test_a_pattern_of_three_specimens_is_absent_from_two_of_five_test_folds() -> None:
    cells = grouping({0: 10, 1: 10, 5: 3})
    splits = all_folds(cells, "specimen")
    tested = [bool(np.any(cells.labels[split.test] == 5)) for split in splits]
    assert sorted(tested) == [False, False, True, True, True]
    for split, is_tested in zip(splits, tested, strict=True):
        assert np.any(cells.labels[split.train] == 5)
        assert ("1 pattern(s)" in split.note) == is_tested  # two are left to train then


def test_loso_tests_specimens_in_the_order_of_names() -> None:
    cells = grouping({1: 3, 0: 2})
    tested = [names(cells, split.test) for split in all_folds(cells, "loso")]
    assert tested == [{"p0s0"}, {"p0s1"}, {"p1s0"}, {"p1s1"}, {"p1s2"}]


def test_published_folds_are_random_halves_of_the_two_pools() -> None:
    cells = grouping({pattern: 8 for pattern in range(5)}, cells=11)
    splits = all_folds(cells, "published")
    assert len({tuple(split.test) for split in splits}) == 5
    for split in splits:
        learning = np.union1d(split.train, split.val)
        assert set(cells.pools[learning]) == {"train"} and set(cells.pools[split.test]) == {"test"}
        assert len(learning) == len(split.test) == 110  # of 220
    in_a_half = np.bincount(np.concatenate([split.test for split in splits]), minlength=440)
    assert 0.01 < np.mean(in_a_half[cells.pools == "test"] == 0) < 0.1  # halves, not a partition
    odd = Grouping(
        np.zeros(5, np.int64), np.array(list("aaabb")), np.array(["train"] * 3 + ["test"] * 2)
    )
    assert len(split_of(odd, "published", validation=0).train) == 2


def test_the_published_split_of_a_copy_is_taken_as_it_is() -> None:
    cells = Grouping(
        np.array([0, 1] * 3), np.array([""] * 6), np.repeat(["test", "train", "val"], 2)
    )
    split = split_of(cells, "public_split")
    assert [part.tolist() for part in (split.train, split.val, split.test)] == [
        [2, 3],
        [4, 5],
        [0, 1],
    ]
    assert split.leaky and split.note == ""
    without_val = Grouping(
        np.zeros(20, np.int64), np.array([""] * 20), np.repeat(["train", "test"], 10)
    )
    split = split_of(without_val, "public_split")
    assert (len(split.train), len(split.val), len(split.test)) == (8, 2, 10)


@pytest.mark.parametrize(
    "protocol, leaky",
    [
        ("published", False),
        ("specimen", False),
        ("loso", False),
        ("random", True),
        ("pools", False),
    ],
)
def test_leaky_protocols_say_so(protocol: str, leaky: bool) -> None:
    assert split_of(grouping({0: 6, 1: 6}), protocol).leaky is leaky


@pytest.mark.parametrize("protocol", ["pools", "public_split"])
def test_whether_pools_leak_the_data_say_not_the_name(protocol: str) -> None:
    apart = grouping({0: 4, 1: 4})
    pools = apart.pools.copy()
    pools[apart.specimens == "p0s1"] = ["test", "test", "test", "train"]
    unknown = apart.specimens.copy()
    unknown[5] = ""
    in_val = np.where(apart.specimens == "p1s0", np.array(["train", "val"] * 16), apart.pools)
    for cells, leaky in (
        (apart, False),
        (Grouping(apart.labels, apart.specimens, pools), True),
        (Grouping(apart.labels, unknown, apart.pools), True),
        (Grouping(apart.labels, apart.specimens, in_val), False),  # not the test's specimens
    ):
        split = split_of(cells, protocol)
        assert split.leaky is leaky
        assert np.array_equal(split.test, np.flatnonzero(cells.pools == "test"))


def test_the_validation_pool_is_learnt_from_unless_validation_is_asked_for() -> None:
    cells = grouping({0: 6, 1: 6})
    pools = np.where(np.isin(cells.specimens, ["p0s0", "p1s0"]), "val", cells.pools)
    cells = Grouping(cells.labels, cells.specimens, pools)
    chosen, all_of_it = (split_of(cells, "pools", validation=share) for share in (0.1, 0))
    assert names(cells, chosen.val) == {"p0s0", "p1s0"} and chosen.note == ""
    assert not len(all_of_it.val) and "fixed number of epochs" in all_of_it.note
    assert np.array_equal(all_of_it.train, np.union1d(chosen.train, chosen.val))
    assert np.array_equal(all_of_it.test, chosen.test)


def test_honest_pools_validate_with_whole_specimens() -> None:
    cells = grouping({0: 10, 1: 10})
    split = split_of(cells, "pools", validation=0.4)
    assert len(names(cells, split.val)) == 4
    assert names(cells, split.val).isdisjoint(names(cells, split.train))


def test_only_leaky_random_folds_share_specimens() -> None:
    cells = grouping({0: 6, 1: 6}, cells=20)
    split = split_of(cells, "random")
    assert names(cells, split.train) == names(cells, split.test)


def test_the_digest_is_stable_and_feels_every_move() -> None:
    ids = np.array(["a", "b", "c", "d"])

    def digest(train: list[int], val: list[int], test: list[int]) -> str:
        parts = (np.array(part, dtype=np.int64) for part in (train, val, test))
        return Split(*parts, leaky=False).digest(ids)

    first = digest([0, 1], [2], [3])
    # sha256 of "a\nb\n\nc\n\nd". Encoders carry it: with another value all of them are strangers.
    assert first == "8486e0fee69b299b"
    others = [
        digest([0], [1, 2], [3]),
        digest([0, 1, 2], [], [3]),
        digest([0, 1], [], [2, 3]),
        digest([0, 1], [3], [2]),
        digest([0, 1], [2], []),
    ]
    assert len({first, *others}) == 6
    parts = (np.array([0, 1]), np.array([2]), np.array([3]))
    assert Split(*parts, leaky=False).digest(np.array(["a", "b", "c", "e"])) != first


def test_folds_are_those_of_earlier_versions() -> None:
    """Otherwise older encoders are refused, and older figures are of other folds."""
    cells = grouping({pattern: 6 for pattern in range(3)}, cells=2)
    split = split_of(cells, "specimen", fold=1, folds=3)
    assert names(cells, split.test) == {"p0s0", "p0s2", "p1s0", "p1s5", "p2s2", "p2s4"}
    assert names(cells, split.val) == {"p0s1", "p1s1", "p2s5"}
    published = split_of(cells, "published", fold=1, folds=3)
    assert published.test.tolist() == [2, 3, 11, 15, 19, 22, 30, 31, 35]
    random = split_of(cells, "random", fold=1, folds=3)
    assert random.test.tolist() == [2, 3, 5, 8, 13, 14, 20, 21, 24, 27, 30, 33]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"protocol": "specimens"}, "protocol=specimens is unknown: choose one of published, "),
        ({"fold": 5}, "fold=5 is out of range: protocol=specimen has 0 to 4"),
        ({"fold": -1}, "fold=-1 is out of range: protocol=specimen has 0 to 4"),
        ({"folds": 1}, "protocol.folds=1 makes no split: choose 2 or more"),
        ({"folds": 7}, "with 7 folds needs as many specimens, but there are 6: lower protocol.fo"),
        ({"validation": 1.0}, "protocol.validation=1.0 must be a number, from 0, below 1"),
        ({"validation": -0.1}, "protocol.validation=-0.1 must be"),
        ({"validation": "a"}, "protocol.validation=a must be a number"),
        ({"validation": None}, "protocol.validation=None must be a number"),
        ({"folds": "a"}, "protocol.folds=a must be a whole number, 0 or more"),
        ({"folds": 2.5}, "protocol.folds=2.5 must be a whole number"),
        ({"folds": None}, "protocol.folds=None must be a whole number"),
        ({"seed": None}, "protocol.seed=None must be a whole number"),
        ({"seed": -1}, "protocol.seed=-1 must be a whole number"),
        ({"seed": 1.5}, "protocol.seed=1.5 must be a whole number"),
        ({"protocol": "loso", "fold": 6}, "fold=6 is out of range: protocol=loso has 0 to 5"),
        ({"protocol": "public_split", "fold": 1}, "fold=1 is out of range: protocol=public_split"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], message: str) -> None:
    arguments = {"protocol": "specimen", "fold": 0} | change
    with pytest.raises(HEp2Error) as caught:
        split_of(grouping({0: 3, 1: 3}), **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("protocol", DISJOINT)
def test_missing_specimens_are_counted_and_the_way_out_is_called_leaky(protocol: str) -> None:
    cells = grouping({0: 4, 1: 4})
    specimens = np.where(np.arange(32) < 3, "", cells.specimens)
    message = (
        rf"^protocol={protocol} needs the specimen of every cell, but 3 of 32 cells have none: "
        r"supply them .*, or use protocol=random, whose metrics are leaky$"
    )
    with pytest.raises(HEp2Error, match=message):
        split_of(Grouping(cells.labels, specimens, cells.pools), protocol)


@pytest.mark.parametrize("protocol", ["published", "pools"])
def test_missing_pools_are_named(protocol: str) -> None:
    with pytest.raises(HEp2Error, match="no cell is in `train`: use protocol=specimen") as caught:
        split_of(grouping({0: 4, 1: 4}, pools=False), protocol)
    assert str(caught.value).startswith(f"protocol={protocol} needs the pools")
    cells = grouping({0: 4, 1: 4})
    with pytest.raises(HEp2Error, match="no cell is in `test`"):
        split_of(Grouping(cells.labels, cells.specimens, np.full(32, "train")), protocol)


@pytest.mark.parametrize(
    ("shared", "named"),
    [
        (2, "p0s0, p0s1 are in both"),
        (5, "p0s0, p0s1, p0s2, p0s3, p0s4 are in both"),
        (6, "p0s0, p0s1, p0s2, p0s3, p0s4 and 1 more are in both"),
        (7, "p0s0, p0s1, p0s2, p0s3, p0s4 and 2 more are in both"),
    ],
)
def test_of_many_shared_specimens_five_are_named(shared: int, named: str) -> None:
    cells = grouping({0: 8, 1: 8})
    names = [f"p0s{number}" for number in range(shared)]
    both = np.flatnonzero(np.isin(cells.specimens, names))
    pools = np.where(np.isin(np.arange(len(cells.pools)), both[::2]), "test", "train")
    pools[cells.specimens == "p1s0"] = "test"
    with pytest.raises(HEp2Error) as caught:
        split_of(Grouping(cells.labels, cells.specimens, pools), "published")
    assert f"but {named}: mend" in str(caught.value)


def test_pools_that_share_a_specimen_are_refused_with_its_name() -> None:
    cells = grouping({0: 4, 1: 4})
    pools = cells.pools.copy()
    pools[0] = "test"
    with pytest.raises(HEp2Error, match="but p0s0 is in both: mend the column `pool`"):
        split_of(Grouping(cells.labels, cells.specimens, pools), "published")


@pytest.mark.parametrize("protocol", ["loso", "pools"])
def test_protocols_with_folds_of_their_own_ask_for_none(protocol: str) -> None:
    cells = grouping({0: 4, 1: 4})
    first, second = (split_of(cells, protocol, folds=folds) for folds in (1, 5))
    assert np.array_equal(first.test, second.test)
    assert np.array_equal(first.train, second.train)


def test_loso_needs_two_specimens() -> None:
    with pytest.raises(HEp2Error, match=r"^protocol=loso needs two specimens or more$"):
        split_of(grouping({0: 1}), "loso")
    first, second = all_folds(grouping({0: 2}), "loso")
    assert np.array_equal(first.test, second.train)
    assert np.array_equal(first.train, second.test)


@pytest.mark.parametrize(("fold", "share", "side"), [(0, 0, "test"), (1, 0.9, "training")])
def test_a_fold_without_cells_on_a_side_is_refused(fold: int, share: float, side: str) -> None:
    with pytest.raises(HEp2Error) as caught:
        split_of(grouping({0: 1}, cells=3), "random", fold, validation=share)
    assert str(caught.value) == f"protocol=random fold={fold} leaves no {side} cell"


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=4, max_size=30), st.integers(2, 4), any_seed)
def test_specimens_go_to_the_fold_with_the_fewest_cells(
    sizes: list[int], folds: int, seed: int
) -> None:
    """Each the only one of its pattern: the largest cannot make more of a difference."""
    cells = Grouping(
        np.repeat(np.arange(len(sizes)), sizes),
        np.repeat([f"s{n:02d}" for n in range(len(sizes))], sizes),
        np.repeat([""] * len(sizes), sizes),
    )
    tested = [len(one.test) for one in all_folds(cells, "specimen", folds=folds, seed=seed)]
    assert max(tested) - min(tested) <= max(sizes)


@settings(deadline=None)
@given(data_sets(mixed=False), any_seed)
def test_every_pattern_is_dealt_evenly(cells: Grouping, seed: int) -> None:
    for pattern in np.unique(cells.labels):
        counts = [
            len(names(cells, split.test[cells.labels[split.test] == pattern]))
            for split in all_folds(cells, "specimen", folds=2, seed=seed)
        ]
        assert max(counts) - min(counts) <= 1


def test_few_labels_are_whole_specimens_and_fewer_are_part_of_more() -> None:
    cells = grouping({pattern: 6 for pattern in range(3)})
    split = make_split(cells, "specimen", 0, 4, 0.0, 0)
    before: set[str] = set()
    for count in (1, 2, 9):
        few = few_labels(cells, split, count, [0])
        assert set(few.train) <= set(split.train) and np.array_equal(few.test, split.test)
        names = set(cells.specimens[few.train])
        assert before <= names
        assert len(few.train) == np.isin(cells.specimens, list(names)).sum()
        for label in np.unique(cells.labels[split.train]):
            every = len(np.unique(cells.specimens[split.train][cells.labels[split.train] == label]))
            kept = len(np.unique(cells.specimens[few.train][cells.labels[few.train] == label]))
            assert kept == min(count, every)
        before = names
    with pytest.raises(HEp2Error, match=r"protocol\.labelled=0 must be null, or 1 or more"):
        few_labels(cells, split, 0, [0])


@pytest.mark.parametrize("lacking", ["folds", "validation", "seed", "labelled"])
def test_a_protocol_of_ones_own_says_everything(lacking: str, configure: Configure) -> None:
    cfg = configure()
    with open_dict(cfg):
        del cfg.protocol[lacking]
    with pytest.raises(HEp2Error, match=rf"protocol\.{lacking} is missing: begin a protocol"):
        open_fold(cfg)
