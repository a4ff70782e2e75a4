"""A calibration as result.json keeps it, under `calibration`; read back with every key checked."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hep2.calls.calibration import Calibration, Limits
from hep2.calls.temperature import HOTTEST
from hep2.errors import HEp2Error
from hep2.metrics import FloatArray

METHOD = "temperature"
MOST = 10**9  # cells or specimens
_ROUNDING = 1e-6  # by how much a score, 1 - p, may miss 0 and 1


def as_record(found: Calibration | str, classes: Sequence[str]) -> dict[str, Any]:
    """What result.json holds; an infinite limit is null."""
    if isinstance(found, str):
        return {"method": "none", "how": found}

    def named(values: FloatArray) -> dict[str, float | None]:
        finite = [float(value) if math.isfinite(value) else None for value in values]
        return dict(zip(classes, finite, strict=True))

    return {
        "method": METHOD,
        "temperature": found.temperature,
        "how": found.how,
        "specimens": found.specimens,
        "cells": found.cells,
        "second_share": float(found.second_share),
        "fewest_cells": found.fewest_cells,
        "sets": [
            {
                "alpha": one.alpha,
                "cells": named(one.cells),
                "specimens": named(one.specimens),
                "own": [name for name, own in zip(classes, one.own, strict=True) if own],
            }
            for one in found.limits
        ],
    }


def from_record(record: Any, classes: Sequence[str]) -> Calibration | None:
    """Read it back; None where the run is of an earlier version, or was not calibrated.

    Raises:
        HEp2Error: it is no such record; the message names the key, and what it holds.
    """
    if record is None or (isinstance(record, Mapping) and record.get("method") == "none"):
        return None
    known = _Record(record, "calibration")
    if known["method"] != METHOD:
        raise known.wrong("method")
    if not isinstance(known["how"], str):
        raise known.wrong("how")
    return Calibration(
        temperature=known.number("temperature", 0.5 / HOTTEST, 2 * HOTTEST),
        how=known["how"],
        specimens=known.count("specimens"),
        cells=known.count("cells"),
        limits=tuple(_limits(one, classes) for one in known.parts("sets")),
        second_share=known.number("second_share", 0, 1),
        fewest_cells=known.count("fewest_cells"),
    )


def _limits(one: "_Record", classes: Sequence[str]) -> Limits:
    def scores(key: str) -> FloatArray:
        named = _Record(one[key], f"{one.name}.{key}")
        wide = (-_ROUNDING, 1 + _ROUNDING)
        return np.array(
            [math.inf if named[name] is None else named.number(name, *wide) for name in classes]
        )

    own = one["own"]
    if not isinstance(own, list) or not all(name in classes for name in own):
        raise one.wrong("own")
    if (alpha := one.number("alpha", 0, 1)) in (0, 1):
        raise one.wrong("alpha")
    return Limits(alpha, scores("cells"), scores("specimens"), np.isin(classes, own))


class _Record:
    """Keys and values of JSON, each checked as it is read; `name` is for messages."""

    def __init__(self, values: Any, name: str) -> None:
        self.values, self.name = values, name
        if not isinstance(values, Mapping):
            raise HEp2Error(f"key {name} is {_short(values)}")

    def __getitem__(self, key: str) -> Any:
        if key not in self.values:
            raise HEp2Error(f"key {self.name} lacks {key}")
        return self.values[key]

    def number(self, key: str, low: float, high: float) -> float:
        """A number within two bounds; types are exact, as Python would take True for one."""
        value = self[key]
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.wrong(key)
        return float(value)

    def count(self, key: str) -> int:
        """A whole number from 1."""
        if type(self[key]) is not int or not 1 <= self[key] <= MOST:
            raise self.wrong(key)
        return int(self[key])

    def parts(self, key: str) -> list["_Record"]:
        """A list of records, not empty."""
        if not isinstance(self[key], list) or not self[key]:
            raise self.wrong(key)
        return [_Record(one, f"{self.name}.{key}[{at}]") for at, one in enumerate(self[key])]

    def wrong(self, key: str) -> HEp2Error:
        """The error to raise for a value."""
        return HEp2Error(f"key {self.name}.{key} is {_short(self[key])}")


def _short(value: Any) -> str:
    """What a key holds, for a message."""
    return f"{str(value)[:40]!r}"
