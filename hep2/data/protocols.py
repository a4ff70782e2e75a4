"""Protocols: which cells train, which validate, which test. Pure functions of arrays and a seed.

| protocol  | the test cells of a fold                    | guarantee                              |
|-----------|---------------------------------------------|----------------------------------------|
| published | a random half of the test pool's cells      | pools share no specimen                |
| specimen  | whole specimens, patterns spread over folds | no specimen on both sides              |
| loso      | one whole specimen                          | no specimen on both sides              |
| source    | a source (patterns that both sides have)    | no source on both sides                |
| pools     | the test pool, whole                        | `leaky` where pools share a specimen,  |
|           |                                             | or where specimens are unknown         |
| random    | a random part of all cells                  | none: `leaky`                          |

`public_split` is an older name of `pools`. What no protocol guarantees: that two specimens come
from two patients, slides or (but for `source`) laboratories.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hep2.data.across import ALL, Across, between_sources, tested_sources
from hep2.data.cells import NOBODY, Grouped, Indices, short_hash
from hep2.errors import HEp2Error, check_number, one_of, whole

Rng = np.random.Generator
BY_POOLS = ("pools", "public_split")
OWN_FOLDS = ("loso", "source", *BY_POOLS)  # as many as the data give, whatever protocol.folds says
ONE_POOL = frozenset({"published"})  # all folds leave the same cells to learn from without labels


class Sides(NamedTuple):
    """What a protocol makes of the cells of a fold; positions, sorted."""

    learning: Indices
    test: Indices
    leaky: bool = False  # whether cells of one specimen may be on both sides


@dataclass(frozen=True)
class Split:
    """One fold: positions of cells in the data set, sorted; the three parts share no cell."""

    train: Indices  # every stage may learn from them
    val: Indices  # choose between epochs; empty where the data allow none
    test: Indices  # are looked at once, at the end
    leaky: bool  # whether cells of one specimen may be on both sides
    note: str = ""  # why `val` must not choose between epochs, or "" if it may
    # Cells that share no specimen with any test cell (no cell, where it is leaky): what reads no
    # label may learn from all of them.
    unlabelled: Indices = field(default_factory=lambda: NOBODY)

    def digest(self, ids: NDArray[np.str_]) -> str:
        """16 hex digits that change when any cell changes sides."""
        parts = ("\n".join(ids[part]) for part in (self.train, self.val, self.test))
        return short_hash("\n\n".join(parts))


def fold_count(protocol: str, folds: int, cells: Grouped, across: Across = ALL) -> int:
    """How many folds a protocol has on these cells."""
    if protocol == "loso":
        return len(np.unique(_known_specimens(cells, protocol)))
    if protocol == "source":
        return len(tested_sources(cells.sources, across))
    return 1 if protocol in BY_POOLS else folds


def make_split(
    cells: Grouped,
    protocol: str,
    fold: int,
    folds: int,
    validation: float,
    seed: int,
    across: Across = ALL,
) -> Split:
    """The split of one fold.

    Args:
        cells: labels, specimens, pools and sources.
        protocol: a name of the table at the top of this module.
        fold: which fold, from 0.
        folds: number of folds (those of OWN_FOLDS have their own).
        validation: the share of a pattern's training specimens that is set aside, in [0, 1); where
            the data have a pool "val", `pools` sets this aside instead, and learns from it at 0.
        seed: of the split alone; training has its own, so that folds stay the same.
        across: which sources `source` learns from and tests.

    Raises:
        HEp2Error: unknown protocol, fold out of range, or data that cannot be split this way.
    """
    make = one_of("protocol", protocol, PROTOCOLS)
    check_number("protocol.validation", validation, below=1)
    for key, value in (("folds", folds), ("seed", seed)):
        if not whole(value, 0):
            raise HEp2Error(f"protocol.{key}={value} must be a whole number, 0 or more")
    count = fold_count(protocol, folds, cells, across)
    if protocol not in OWN_FOLDS and folds < 2:
        raise HEp2Error(f"protocol.folds={folds} makes no split: choose 2 or more")
    if not 0 <= fold < count:
        raise HEp2Error(f"fold={fold} is out of range: protocol={protocol} has 0 to {count - 1}")
    # A generator of its own: building a network or adding a fold must not move the split.
    rng = np.random.default_rng(seed)
    learning, test, leaky = make(cells, fold, folds, rng, across)
    if protocol in BY_POOLS and validation and np.any(cells.pools == "val"):
        val, note = np.flatnonzero(cells.pools == "val"), ""
    else:
        val, note = choose_validation(cells, learning, validation, leaky, [seed, fold, 1])
    train = np.setdiff1d(learning, val)
    for name, part in (("training", train), ("test", test)):
        if not len(part):
            raise HEp2Error(f"protocol={protocol} fold={fold} leaves no {name} cell")
    split = Split(train, val, test, leaky, note)
    return replace(split, unlabelled=_unlabelled(cells, protocol, split))


def _unlabelled(cells: Grouped, protocol: str, split: Split) -> Indices:
    if protocol in ONE_POOL:
        return np.flatnonzero(cells.pools == "train")
    if protocol == "source":  # the other source stays unseen
        return np.union1d(split.train, split.val)
    if split.leaky:
        return np.setdiff1d(np.arange(len(cells.labels)), split.test)
    return np.flatnonzero(~np.isin(cells.specimens, cells.specimens[split.test]))


def _published(cells: Grouped, fold: int, folds: int, rng: Rng, across: Across) -> Sides:
    """The paper: "Each set (training and testing) contains five-fold validation splits of randomly
    selected images [...] each split containing 450 images approximately" of the 905 and 979: for
    every fold a random half of each pool.
    """  # noqa: D205
    pools = _checked_pools(cells, "published")
    specimens = _known_specimens(cells, "published")
    shared = np.intersect1d(specimens[pools == "train"], specimens[pools == "test"])
    if len(shared):
        raise HEp2Error(
            f"protocol=published needs pools that share no specimen, but {_some(shared)} "
            f"{'is' if len(shared) == 1 else 'are'} in both: mend the column `pool`"
        )
    train, test = (np.flatnonzero(pools == pool) for pool in ("train", "test"))
    orders = [[rng.permutation(pool) for _ in range(folds)][fold] for pool in (train, test)]
    learning, tested = (np.sort(order[: (len(order) + 1) // 2]) for order in orders)
    return Sides(learning, tested)


def _specimen(cells: Grouped, fold: int, folds: int, rng: Rng, across: Across) -> Sides:
    """Stratified k-fold over specimens.

    Pattern after pattern, specimens are dealt in random order, each to the fold that has the
    fewest specimens of the pattern, then the fewest cells. A pattern with fewer specimens than
    folds is absent from some test folds.
    """
    specimens = _known_specimens(cells, "specimen")
    names, owner, sizes = np.unique(specimens, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise HEp2Error(
            f"protocol=specimen with {folds} folds needs as many specimens, but there are "
            f"{len(names)}: lower protocol.folds"
        )
    pattern = pattern_of_specimens(cells.labels, owner, len(names))
    home = np.empty(len(names), dtype=np.int64)
    load = np.zeros(folds)
    for label in np.unique(pattern):
        dealt = np.zeros(folds)
        for specimen in rng.permutation(np.flatnonzero(pattern == label)):
            home[specimen] = np.lexsort((load, dealt))[0]
            dealt[home[specimen]] += 1
            load[home[specimen]] += sizes[specimen]
    return Sides(np.flatnonzero(home[owner] != fold), np.flatnonzero(home[owner] == fold))


def _loso(cells: Grouped, fold: int, folds: int, rng: Rng, across: Across) -> Sides:
    """Leave one specimen out; fold k tests on the k-th specimen in the order of names."""
    names, owner = np.unique(_known_specimens(cells, "loso"), return_inverse=True)
    if len(names) < 2:
        raise HEp2Error("protocol=loso needs two specimens or more")
    return Sides(np.flatnonzero(owner != fold), np.flatnonzero(owner == fold))


def _random(cells: Grouped, fold: int, folds: int, rng: Rng, across: Across) -> Sides:
    """Stratified k-fold over cells: leaky, cells of one specimen stand on both sides."""
    home = np.empty(len(cells.labels), dtype=np.int64)
    for label in np.unique(cells.labels):
        members = rng.permutation(np.flatnonzero(cells.labels == label))
        home[members] = (np.arange(len(members)) + rng.integers(folds)) % folds
    return Sides(np.flatnonzero(home != fold), np.flatnonzero(home == fold), leaky=True)


def _pools(cells: Grouped, fold: int, folds: int, rng: Rng, across: Across) -> Sides:
    """The split that a data set brings, whole. Whether it leaks the data say, not its name."""
    test = _checked_pools(cells, "pools") == "test"
    unknown = bool(np.any(cells.specimens == ""))
    shared = np.intersect1d(cells.specimens[~test], cells.specimens[test])
    return Sides(np.flatnonzero(~test), np.flatnonzero(test), unknown or len(shared) > 0)


def _source(cells: Grouped, fold: int, folds: int, rng: Rng, across: Across) -> Sides:
    """Train on one source, test on another; see hep2.data.across."""
    return Sides(*between_sources(cells.sources, cells.labels, fold, across))


PROTOCOLS: dict[str, Callable[[Grouped, int, int, Rng, Across], Sides]] = {
    "published": _published,
    "specimen": _specimen,
    "loso": _loso,
    "source": _source,
    "pools": _pools,
    "public_split": _pools,
    "random": _random,
}


def choose_validation(
    cells: Grouped, learning: Indices, share: float, leaky: bool, entropy: list[int]
) -> tuple[Indices, str]:
    """Set a share of the `learning` cells aside: whole specimens, or cells where it is leaky.

    Returns:
        Positions of the validation cells, sorted, and why they must not choose between epochs
        ("" if they may).
    """
    if share == 0:
        return NOBODY, "no validation cells: a fixed number of epochs"
    rng = np.random.default_rng(entropy)
    if leaky:
        return np.sort(rng.permutation(learning)[: round(share * len(learning))]), ""
    names, owner = np.unique(cells.specimens[learning], return_inverse=True)
    pattern = pattern_of_specimens(cells.labels[learning], owner, len(names))
    chosen, short = list[int](), 0
    for label in np.unique(pattern):
        members = rng.permutation(np.flatnonzero(pattern == label))
        # Two specimens must be left to learn from: one alone teaches its staining, not a pattern.
        if len(members) < 3:
            short += 1
        else:
            chosen.extend(members[: max(1, min(round(share * len(members)), len(members) - 2))])
    note = f"{short} pattern(s) with fewer than three training specimens have no validation cell"
    note = f"{note}: a fixed number of epochs" if short else ""
    return learning[np.isin(owner, chosen)], note


def pattern_of_specimens(labels: NDArray[np.int64], owner: Indices, count: int) -> Indices:
    """The commonest pattern of each specimen (some specimens are mixed); ties: the first."""
    table = np.zeros((count, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(table, (owner, labels), 1)
    return np.asarray(table.argmax(axis=1), dtype=np.int64)


def few_labels(cells: Grouped, split: Split, specimens: int, entropy: list[int]) -> Split:
    """The same fold with the labels of this many training specimens of each pattern, or of all.

    Raises:
        HEp2Error: specimens are unknown, or none is asked for.
    """
    if not whole(specimens, 1):
        raise HEp2Error(f"protocol.labelled={specimens} must be null, or 1 or more specimens")
    train = split.train
    names, owner = np.unique(_known_specimens(cells, "few labels")[train], return_inverse=True)
    pattern = pattern_of_specimens(cells.labels[train], owner, len(names))
    order = np.random.default_rng(entropy).permutation(len(names))  # fewer are part of more
    kept = [order[pattern[order] == label][:specimens] for label in np.unique(pattern)]
    return replace(split, train=train[np.isin(owner, np.concatenate(kept))])


def _known_specimens(cells: Grouped, protocol: str) -> NDArray[np.str_]:
    unknown = int(np.sum(cells.specimens == ""))
    if unknown:
        raise HEp2Error(
            f"protocol={protocol} needs the specimen of every cell, but {unknown} of "
            f"{len(cells.specimens)} cells have none: supply them (data=i3a: specimens.csv), "
            "or use protocol=random, whose metrics are leaky"
        )
    return cells.specimens


def _checked_pools(cells: Grouped, protocol: str) -> NDArray[np.str_]:
    for pool in ("train", "test"):
        if not np.any(cells.pools == pool):
            raise HEp2Error(
                f"protocol={protocol} needs the pools `train` and `test`, but no cell is in "
                f"`{pool}`: use protocol=specimen, or a data set with pools"
            )
    return cells.pools


def _some(names: NDArray[np.str_]) -> str:
    listed = ", ".join(names[:5])
    return f"{listed} and {len(names) - 5} more" if len(names) > 5 else listed
