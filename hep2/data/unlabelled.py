"""More cells without labels: which of them a fold's encoders may learn from."""

from dataclasses import replace
from typing import Any

import numpy as np

from hep2.data.cells import Cells, Indices
from hep2.data.spelling import spelling_key
from hep2.errors import HEp2Error

COLUMNS = ("images", "ids", "labels", "specimens", "pools", "sources", "intensities")


def apart(more: Cells, cells: Cells, test: Indices, protocol: str) -> Cells:
    """Those that share no specimen with the test cells, and under `source` no source either.

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
    kept = np.flatnonzero(~shared)
    chosen: dict[str, Any] = {name: getattr(more, name)[kept] for name in COLUMNS}
    return replace(more, **chosen)


def _key(specimen: str, short: bool) -> str:
    return spelling_key(specimen.rpartition("/")[2] if short else specimen)
