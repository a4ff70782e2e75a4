"""One fold of one data set: its cells, who trains and who tests, and its fingerprint."""

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from hep2.data.audit import Audit, audit_split
from hep2.data.cells import Cells
from hep2.data.protocols import NOBODY, Split, few_labels, fold_count, make_split
from hep2.data.store import open_cells
from hep2.errors import HEp2Error

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fold:
    """Everything of the data that a stage needs."""

    cells: Cells  # the whole data set; only the split says who may be looked at
    split: Split
    number: int  # which fold, from 0
    count: int  # how many folds the protocol has
    provenance: dict[str, str | int]  # what weights learned here are bound to

    @property
    def protocol(self) -> str:
        """The protocol as names of metrics have it: leaky ones say so."""
        name = str(self.provenance["protocol"])
        return f"{name}-leaky" if self.split.leaky else name

    @property
    def pool_provenance(self) -> dict[str, str | int]:
        """What weights are bound to that were learned from `split.unlabelled`, without labels.

        It names the cells, not the fold: folds that leave the same cells may share an encoder.
        """
        names = "\n".join(self.cells.ids[self.split.unlabelled])
        shared = {key: self.provenance[key] for key in ("data", "protocol", "seed")}
        return shared | {"pool": hashlib.sha256(names.encode()).hexdigest()[:16]}

    def pooled(self) -> "Fold":
        """The same fold for a stage that reads no label: it learns from `split.unlabelled`."""
        note = "encoders learn from all cells without a test specimen: a fixed number of epochs"
        split = replace(self.split, train=self.split.unlabelled, val=NOBODY, note=note)
        return replace(self, split=split, provenance=self.pool_provenance)


def open_fold(cfg: DictConfig) -> Fold:
    """Open the data set and split it as the configuration asks.

    Raises:
        HEp2Error: the data are missing, faulty, or cannot be split this way; or the stage asks for
            other cells to learn from than there are.
    """
    source = instantiate(cfg.data.source, _convert_="all")
    cells = open_cells(source, Path(cfg.cache_dir), cfg.data.image_size, cfg.data.channel)
    name, folds = cfg.protocol.name, cfg.protocol.folds
    split = make_split(cells, name, cfg.fold, folds, cfg.protocol.validation, cfg.protocol.seed)
    if cfg.protocol.labelled is not None and cfg.stage.kind != "reconstruction":
        entropy = [cfg.protocol.seed, cfg.fold, 2]
        split = few_labels(cells, split, cfg.protocol.labelled, entropy)
    if split.note and cfg.protocol.validation:
        log.warning("fold %d: %s", cfg.fold, split.note)
    provenance: dict[str, str | int] = {
        "data": cells.key,
        "split": split.digest(cells.ids),
        "protocol": str(name),
        "fold": int(cfg.fold),
        "seed": int(cfg.seed),
    }
    fold = Fold(cells, split, int(cfg.fold), fold_count(name, folds, cells), provenance)
    learn_from = cfg.stage.get("learn_from", "training")
    if learn_from not in ("training", "pool"):
        raise HEp2Error(f"stage.learn_from={learn_from} is unknown: choose training or pool")
    return fold.pooled() if learn_from == "pool" else fold


def audited(fold: Fold) -> Audit:
    """What the two sides of the fold share; said aloud where the protocol promises otherwise."""
    audit = audit_split(fold.cells, fold.split)
    if audit.identical_cells and not fold.split.leaky:
        log.warning(
            "fold %d: %d test cells have the pixels of a training cell, e.g. %s",
            fold.number,
            audit.identical_cells,
            " = ".join(audit.pairs[0][:2]),
        )
    return audit
