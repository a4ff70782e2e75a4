"""What ICAP calls the patterns of a data set: beside its own names, never instead."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from hep2.data.spelling import label_key
from hep2.errors import HEp2Error

ICAP = Path(__file__).with_name("icap.yaml")
LARGEST = 20_000  # bytes of a file of names
LONGEST = 200  # letters of a name or note
_CODE = re.compile(r"AC-\d{1,2}[a-z]?")
_FORM = "write <pattern>: {codes: [AC-4, AC-5], name: ..., note: ...}, as hep2/data/icap.yaml does"


@dataclass(frozen=True)
class PatternName:
    """What ICAP calls one pattern of a data set."""

    codes: tuple[str, ...]  # AC-1 ...: several where the data set's class holds several
    name: str
    note: str


class PatternNames:
    """Names by the data set's own; where there is none, all texts are empty.

    Args:
        names: by the data set's own name; its spelling does not matter, and a later one counts.
    """

    def __init__(self, names: Mapping[str, PatternName]) -> None:
        self._names = {label_key(label): name for label, name in names.items()}

    def get(self, label: str) -> PatternName | None:
        """What is known of a pattern."""
        return self._names.get(label_key(label))

    def codes(self, label: str) -> str:
        """The codes of a pattern, "AC-4 or AC-5"."""
        name = self.get(label)
        return " or ".join(name.codes) if name else ""

    def words(self, label: str) -> str:
        """What ICAP calls a pattern, with what is to be said of it in brackets."""
        name = self.get(label)
        return f"{name.name} ({name.note})" if name and name.note else name.name if name else ""


def pattern_names(own: str | None = None) -> PatternNames:
    """The names of hep2/data/icap.yaml, and before them those of a file of one's own.

    Raises:
        HEp2Error: the file is missing, no YAML, or an entry is not of this form.
    """
    names = _read(ICAP)
    if own is not None:
        names |= _read(Path(own))
    return PatternNames(names)


def _read(path: Path) -> dict[str, PatternName]:
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise HEp2Error(f"names={path} has {size} bytes: no mapping of patterns")
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (FileNotFoundError, NotADirectoryError):
        raise HEp2Error(f"names={path}: no such file") from None
    except HEp2Error:
        raise
    except Exception as error:  # of PyYAML and OmegaConf, and of the file system
        why = " ".join(str(error).split())[:300]
        raise HEp2Error(f"names={path} cannot be read as YAML: {why}") from error
    if not isinstance(content, dict) or not content:
        raise HEp2Error(f"names={path} names no pattern: {_FORM}")
    names, keys = dict[str, PatternName](), dict[str, str]()
    for label, entry in content.items():
        named = str(label)
        if (other := keys.setdefault(label_key(named), named)) != named:
            raise HEp2Error(f"names={path}: {other} and {named} are one pattern; keep one of them")
        names[named] = _entry(f"names={path}: {named[:LONGEST]}", entry)
    return names


def _entry(where: str, entry: Any) -> PatternName:
    if not isinstance(entry, dict) or not {"codes", "name"} <= entry.keys() <= {
        "codes", "name", "note"
    }:  # fmt: skip
        raise HEp2Error(f"{where} is not of the right form: {_FORM}")
    codes, name, note = entry["codes"], entry["name"], entry.get("note", "")
    if not isinstance(codes, list) or not all(_CODE.fullmatch(str(code)) for code in codes):
        raise HEp2Error(f"{where}: codes must be a list of ICAP's, such as [AC-4, AC-5]")
    for key, text in (("name", name), ("note", note)):
        if not isinstance(text, str) or len(text) > LONGEST:
            raise HEp2Error(f"{where}: {key} must be a text of at most {LONGEST} letters")
    return PatternName(tuple(map(str, codes)), name, note)
