"""The fields of a result.json, each checked: a damaged one is named with its remedy."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from hep2.errors import HEp2Error

LARGEST = 1e300  # of a figure or a time: a whole number in JSON can be too large for a float


def load(file: Path) -> dict[str, Any]:
    """What a result.json holds."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (ValueError, OSError, RecursionError) as error:
        raise damaged(file, f"it cannot be read as JSON ({error})") from error
    if not isinstance(stored, dict):
        raise damaged(file, "it is no JSON object")
    return stored


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")  # Python's reader takes NaN and Infinity, JSON not


def reader(file: Path, stored: dict[str, Any]) -> Callable[[str, type | tuple[type, ...]], Any]:
    """A function that gives a key's value, or says that it is missing or of a wrong type."""

    def field(key: str, kind: type | tuple[type, ...]) -> Any:
        if key not in stored:
            raise damaged(file, f"key {key} is missing")
        value = stored[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and not _allows_bool(kind)):
            raise damaged(file, f"key {key} is {value!r}")
        return value

    return field


def _allows_bool(kind: type | tuple[type, ...]) -> bool:
    """Python counts True as an int; here only what says bool takes one."""
    return kind is bool or (isinstance(kind, tuple) and bool in kind)


def matching(file: Path, key: str, value: str, pattern: re.Pattern[str]) -> str:
    """A text that must look like a pattern."""
    if pattern.fullmatch(value) is None:
        raise damaged(file, f"key {key} is {value!r}")
    return value


def numbers(file: Path, key: str, values: dict[str, Any]) -> dict[str, float]:
    """Figures by name; null stands for one that is not defined, and becomes NaN."""
    for name, value in values.items():
        number = not isinstance(value, bool) and isinstance(value, (int, float))
        if value is not None and not (number and abs(value) <= LARGEST):
            raise damaged(file, f"key {key}.{name} is {str(value)[:40]!r}")
    return {name: float("nan") if value is None else float(value) for name, value in values.items()}


def damaged(file: Path, what: str) -> HEp2Error:
    """The error to raise for a file of a run that cannot be what the run wrote."""
    return HEp2Error(f"{file} is damaged or foreign: {what}; {remedy(file.parent)}")


def remedy(path: Path) -> str:
    """What to do about a damaged run."""
    return f"delete {path} and run its command again"
