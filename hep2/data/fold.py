"""One fold of one data set: its cells, who trains and who tests, and its fingerprint."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from hep2.config import plain
from hep2.data.across import ALL, across_of, left_out, with_patterns
from hep2.data.audit import Audit, audit_split
from hep2.data.cells import NOBODY, Cells, Indices, joined, short_hash
from hep2.data.images import FULL_SCALE
from hep2.data.protocols import Split, few_labels, fold_count, make_split
from hep2.data.spelling import spelling_key
from hep2.data.store import open_cells
from hep2.errors import HEp2Error

log = logging.getLogger(__name__)

SETTINGS = ("name", "folds", "validation", "seed", "labelled")  # of every protocol
OF_SOURCE = ("train", "test")


@dataclass(frozen=True)
class Fold:
    """Everything of the data that a stage needs."""

    cells: Cells  # the whole data set; only the split says who may be looked at
    split: Split
    number: int  # which fold, from 0
    count: int  # how many folds the protocol has
    provenance: dict[str, str | int]  # what weights learned here are bound to
    notes: tuple[str, ...] = ()  # what is odd about the data set, in sentences
    more: Cells | None = None  # cells without labels, of no test specimen, that encoders learn from

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
        names = self.cells.ids[self.split.unlabelled].tolist()
        if self.more is not None:
            names += [self.more.key, *self.more.specimens.tolist()]
        digest = short_hash("\n".join(names))
        own = self.provenance
        return {key: own[key] for key in ("data", "protocol", "seed")} | {"pool": digest}

    def pooled(self) -> "Fold":
        """The same fold for a stage that reads no label: it learns from `split.unlabelled`."""
        note = "encoders learn from all cells without a test specimen: a fixed number of epochs"
        cells, train = self.cells, self.split.unlabelled
        if self.more is not None:
            train = np.concatenate([train, len(cells) + np.arange(len(self.more))])
            cells = joined(cells, self.more)
        split = replace(self.split, train=train, val=NOBODY, note=note)
        return replace(self, cells=cells, split=split, provenance=self.pool_provenance)


def open_fold(cfg: DictConfig) -> Fold:
    """Open the data set and split it as the configuration asks.

    Raises:
        HEp2Error: the data are missing, faulty, or cannot be split this way; or the stage asks for
            other cells to learn from than there are.
    """
    protocol = _settings_of(plain(cfg.protocol))
    with _noted() as notes:
        cells, more = _open(cfg.data, Path(cfg.cache_dir))
    name, folds = protocol["name"], protocol["folds"]
    if names := protocol.get("patterns"):
        cells = with_patterns(cells, names)
    by_source = name == "source"
    across = across_of(protocol["train"], protocol["test"]) if by_source else ALL
    settings = (cfg.fold, folds, protocol["validation"], protocol["seed"], across)
    split = make_split(cells, name, *settings)
    used = np.concatenate([split.train, split.val, split.test])
    if by_source and (lone := left_out(cells, used)):
        log.warning(
            "fold %d: patterns without cells on both sides, left out: %s", cfg.fold, ", ".join(lone)
        )
    if protocol["labelled"] is not None and cfg.stage.kind != "reconstruction":
        split = few_labels(cells, split, protocol["labelled"], [protocol["seed"], cfg.fold, 2])
    if split.note and protocol["validation"]:
        log.warning("fold %d: %s", cfg.fold, split.note)
    provenance: dict[str, str | int] = {
        "data": cells.key,
        "split": split.digest(cells.ids),
        "protocol": str(name),
        "fold": int(cfg.fold),
        "seed": int(cfg.seed),
    }
    count = fold_count(name, folds, cells, across)
    more = apart(more, cells, split.test, name) if more else None
    fold = Fold(cells, split, int(cfg.fold), count, provenance, tuple(notes), more)
    learn_from = cfg.stage.get("learn_from", "training")
    if learn_from not in ("training", "pool"):
        raise HEp2Error(f"stage.learn_from={learn_from} is unknown: choose training or pool")
    return fold.pooled() if learn_from == "pool" else fold


def _settings_of(protocol: dict[str, Any]) -> dict[str, Any]:
    """The same; HEp2Error where a setting is missing, or would not be read."""
    if lacking := [key for key in SETTINGS if key not in protocol]:
        raise HEp2Error(
            f"protocol.{lacking[0]} is missing: begin a protocol of your own with one of ours, "
            "defaults: [specimen, _self_]"
        )
    by_source = protocol["name"] == "source"
    known = (*SETTINGS, "patterns", *(OF_SOURCE if by_source else ()))
    if unknown := [key for key in protocol if key not in known]:
        raise HEp2Error(
            f"protocol.{unknown[0]} is no setting of protocol={protocol['name']}; there are "
            f"{', '.join(known)}"
        )
    return protocol


def _open(data: DictConfig, cache_dir: Path) -> tuple[Cells, Cells | None]:
    """The cells of the data set, and those of `data.unlabelled` where it names any."""
    how = (data.image_size, data.channel, data.get("page"), data.get("full_scale"))
    cells = open_cells(instantiate(data.source, _convert_="all"), cache_dir, *how)
    _say_scale(cells, as_set=data.get("full_scale") is not None)
    if not data.get("unlabelled"):
        return cells, None
    named = {"_target_": "hep2.data.sources.unlabelled", "root": data.unlabelled}
    return cells, open_cells(instantiate(named), cache_dir, *how)


def apart(more: Cells, cells: Cells, test: Indices, protocol: str) -> Cells:
    """Cells without labels that an encoder may learn from: they share no specimen with a test cell.

    Under the protocol `source`, no source either.

    Names are compared as a reader would: "s07" is S07. Where one of the sets has sources and the
    other has none, "Turin/S07" is S07 as well. Cells of unknown specimens stay.

    Raises:
        HEp2Error: under `source`, cells whose source is not known.
    """
    if protocol == "source" and (unknown := int((more.sources == "").sum())):
        raise HEp2Error(
            f"data.unlabelled: {unknown} of the cells are of no source; protocol=source learns "
            "nothing from that of the test cells; add the column source to the CSV"
        )
    by_source = [bool((one.sources != "").any()) for one in (more, cells)]
    short = by_source[0] != by_source[1]
    tested = {_key(name, short) for name in cells.specimens[test]} - {""}
    shared = np.array([_key(name, short) in tested for name in more.specimens], np.bool_)
    if protocol == "source":
        theirs = {spelling_key(name) for name in cells.sources[test]}
        shared |= np.array([spelling_key(name) in theirs for name in more.sources], np.bool_)
    per_cell = ("images", "ids", "labels", "specimens", "pools", "sources", "intensities")
    chosen: dict[str, Any] = {name: getattr(more, name)[~shared] for name in per_cell}
    return replace(more, **chosen)


def _key(specimen: str, short: bool) -> str:
    return spelling_key(specimen.rpartition("/")[2] if short else specimen)


def _say_scale(cells: Cells, as_set: bool) -> None:
    """What was taken for white in images of 16 bits; a warning where it is a guess that counts."""
    scale, name = cells.file_scale, cells.name
    if scale is None:
        return
    if as_set:
        log.info("%s: %d is white in 16-bit images, as set", name, scale)
        return
    level = logging.INFO if scale == FULL_SCALE else logging.WARNING
    why = "by their brightest pixels or their own word"
    remedy = "data.full_scale=<number> sets another"
    log.log(level, "%s: %d is taken for white in 16-bit images, %s; %s", name, scale, why, remedy)


@contextmanager
def _noted() -> Iterator[list[str]]:
    """The warnings that modules of data log meanwhile; whoever reads a report must see them too."""
    notes = list[str]()
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: notes.append(record.getMessage())  # type: ignore[method-assign]
    modules = logging.getLogger(__package__)
    modules.addHandler(handler)
    try:
        yield notes
    finally:
        modules.removeHandler(handler)


def audited(fold: Fold) -> Audit:
    """What the two sides of the fold share; said aloud where the protocol promises otherwise."""
    split = fold.split
    audit = audit_split(fold.cells, np.concatenate([split.train, split.val]), split.test)
    if audit.identical_cells and not split.leaky:
        log.warning(
            "fold %d: %d test cells have the pixels of a training cell, e.g. %s",
            fold.number,
            audit.identical_cells,
            " = ".join(audit.pairs[0][:2]),
        )
    return audit
