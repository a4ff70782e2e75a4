"""One fold of one data set: its cells, who trains and who tests, and its fingerprint."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from hep2.config import plain
from hep2.data.across import across_of, left_out, with_patterns
from hep2.data.audit import Audit, audit_split
from hep2.data.cells import Cells
from hep2.data.protocols import Split, fold_count, make_split
from hep2.data.store import open_cells

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fold:
    """Everything of the data that a stage needs."""

    cells: Cells  # the whole data set; only the split says who may be looked at
    split: Split
    count: int  # how many folds the protocol has
    provenance: dict[str, str | int]  # what weights learned here are bound to

    @property
    def protocol(self) -> str:
        """The protocol as names of metrics have it: leaky ones say so."""
        name = str(self.provenance["protocol"])
        return f"{name}-leaky" if self.split.leaky else name


def open_fold(cfg: DictConfig) -> Fold:
    """Open the data set and split it as the configuration asks.

    Raises:
        HEp2Error: the data are missing, faulty, or cannot be split this way.
    """
    source = instantiate(cfg.data.source, _convert_="all")
    cells = open_cells(source, Path(cfg.cache_dir), cfg.data.image_size, cfg.data.channel)
    protocol = plain(cfg.protocol)
    name, folds = protocol["name"], protocol["folds"]
    cells = with_patterns(cells, protocol.get("patterns"))
    across = across_of(protocol.get("train"), protocol.get("test"))
    settings = (cfg.fold, folds, protocol["validation"], protocol["seed"], across)
    split = make_split(cells, name, *settings)
    used = np.concatenate([split.train, split.val, split.test])
    if name == "source" and (lone := left_out(cells, used)):
        log.warning(
            "fold %d: patterns without cells on both sides, left out: %s", cfg.fold, ", ".join(lone)
        )
    if split.note:
        log.warning("fold %d: %s", cfg.fold, split.note)
    provenance: dict[str, str | int] = {
        "data": cells.key,
        "split": split.digest(cells.ids),
        "protocol": str(name),
        "fold": int(cfg.fold),
        "seed": int(cfg.seed),
    }
    return Fold(cells, split, fold_count(name, folds, cells, across), provenance)


def audited(fold: Fold) -> Audit:
    """What the two sides of the fold share; said aloud where the protocol promises otherwise."""
    split = fold.split
    audit = audit_split(fold.cells, np.concatenate([split.train, split.val]), split.test)
    if audit.identical_cells and not split.leaky:
        log.warning(
            "fold %d: %d test cells have the pixels of a training cell, e.g. %s",
            fold.provenance["fold"],
            audit.identical_cells,
            " = ".join(audit.pairs[0][:2]),
        )
    return audit
