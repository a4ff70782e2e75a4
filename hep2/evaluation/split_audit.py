"""The audit of anybody's split: what stands on both sides, and what that is worth."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hep2.data.audit import NEAR_CORRELATION, Pairs, closest, look_alikes, shared_specimens
from hep2.data.cells import Cells, Indices, spread
from hep2.data.split_table import Columns, Held, SplitTable, read_split_table
from hep2.evaluation.nearest import Worth, worth_of
from hep2.files import progress_bar
from hep2.metrics import StringArray

# Cells of different specimens look alike by chance, and more so in some data sets than in others.
# The documented share (see hep2.data.audit) is the most that was found among cells none of which
# is a copy; where specimens are known, a look-alike must also be closer than all but this share of
# cells of different specimens are on the side that is learned from.
CHANCE = 3 / 380
SURE = 1e-3  # probability of so many look-alikes by chance, below which they are a leak
PROBED = 1024  # cells that show how much different specimens look alike
COPY = 0.9999  # correlation from which a look-alike is a copy, however much cells look alike


@dataclass(frozen=True)
class Finding:
    """What the test cells of one fold share with the cells that are learned from."""

    held: Held
    shared: StringArray | None  # names of specimens; None where they are unknown
    cells_of_shared: int  # in the test part
    identical: Pairs  # (test cell, other cell)
    near: Pairs
    threshold: float  # correlation from which a cell counts as near


@dataclass(frozen=True)
class SplitAudit:
    """All that is known of a split."""

    name: str  # of its table
    table: SplitTable
    findings: tuple[Finding, ...]
    worth: Worth

    @property
    def tested(self) -> int:
        """Number of test cells, each in one fold."""
        return sum(len(one.held.test) for one in self.findings)

    @property
    def shared(self) -> int | None:
        """Number of specimens on both sides of any fold; None where specimens are unknown."""
        names = [one.shared for one in self.findings if one.shared is not None]
        return len(np.unique(np.concatenate(names))) if names else None

    def total(self, what: str) -> int:
        """A count over all folds: `cells_of_shared`, `identical` or `near`."""
        counts = (getattr(one, what) for one in self.findings)
        return sum(count if isinstance(count, int) else len(count) for count in counts)

    @property
    def pairs(self) -> list[tuple[int, int, str]]:
        """Positions of (test cell, other cell) and their kind: identical ones first, then near."""
        return [
            (test, other, kind)
            for kind in ("identical", "near")
            for one in self.findings
            for test, other in getattr(one, kind)
        ]

    @property
    def expected_near(self) -> float:
        """Look-alikes that chance would give."""
        return CHANCE * self.tested

    @property
    def beyond_chance(self) -> bool:
        """Whether there are more look-alikes than cells have that are no copies."""
        from scipy.stats import binom

        return bool(binom.sf(self.total("near") - 1, self.tested, CHANCE) < SURE)

    @property
    def leaks(self) -> bool:
        """Whether a score under this split owes something to cells seen before."""
        return bool(self.shared) or self.total("identical") > 0 or self.beyond_chance


def audit_table(
    path: Path,
    columns: Columns,
    root: Path | None = None,
    channel: str = "green",
    given: Iterable[tuple[int, Mapping[str, str]]] | None = None,
) -> SplitAudit:
    """Read a table and compare its sides; all is as of `read_split_table`."""
    table = read_split_table(path, columns, root, channel, given)
    findings = tuple(_compared(table.cells, one) for one in progress_bar(table.held, "audit"))
    return SplitAudit(path.name, table, findings, worth_of(table.cells, table.held))


def _compared(cells: Cells, held: Held) -> Finding:
    shared = shared_specimens(cells, held.learning, held.test)
    threshold = NEAR_CORRELATION
    if shared is not None:
        threshold = max(threshold, _ordinary(cells, held.learning))
    identical, near = look_alikes(cells, held.learning, held.test, threshold)
    of_shared = 0 if shared is None else int(np.isin(cells.specimens[held.test], shared).sum())
    return Finding(held, shared, of_shared, identical, near, threshold)


def _ordinary(cells: Cells, learning: Indices) -> float:
    """How well the closest cells of different specimens correlate, all but CHANCE of them."""
    probed = learning[spread(len(learning), PROBED)]
    best, _ = closest(cells, probed, learning, strangers=True)
    return min(COPY, float(np.nextafter(np.quantile(best, 1 - CHANCE), 1)))
