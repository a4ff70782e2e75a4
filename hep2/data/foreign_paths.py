"""Paths that were written on another system, found below the root of a data set."""

import logging
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from hep2.data.spelling import normal

log = logging.getLogger(__name__)


@dataclass
class Finder:
    """Finds files by the paths of a CSV, also by those of another system or computer.

    A path that leads nowhere is tried with forward slashes; where it is absolute, by its end that
    exists below the root; and with other capitals or another form of its accents, where one file
    alone fits.
    """

    root: Path
    read: dict[str, str] = field(default_factory=dict)  # paths that were not taken as they are

    def file(self, text: str) -> Path:
        """The file of a path, normalised; where there is none, what the path says."""
        literal = Path(os.path.normpath(self.root / text))
        if not text or "\0" in text or os.path.lexists(literal):
            return literal
        for end in _ends(text):
            if (found := self._below(end)) is not None:
                self.read[text] = os.path.relpath(found, self.root)
                return found
        return literal

    def _below(self, path: str) -> Path | None:
        file = Path(os.path.normpath(self.root / path))
        if os.path.lexists(file):
            return file
        alike = self._listing.get(normal(os.path.normpath(path)), [])
        return alike[0] if len(alike) == 1 else None

    @cached_property
    def _listing(self) -> dict[str, list[Path]]:
        """All files below the root by their normal paths; read where a path leads nowhere."""
        listing: dict[str, list[Path]] = {}
        for folder, _, names in os.walk(self.root):
            for name in names:
                file = Path(folder, name)
                key = normal(os.path.relpath(file, self.root))
                listing.setdefault(key, []).append(file)
        return listing

    def warn(self, name: str) -> None:
        """Say once which paths of a file were not taken as they are."""
        if self.read:
            first, found = next(iter(self.read.items()))
            text = "%s: %d paths of another system, e.g. %s, read as %s"
            log.warning(text, name, len(self.read), first, found)


def _ends(text: str) -> list[str]:
    """What a path may mean below a root: all of it, or an end of it where it is absolute."""
    path = (unquote(text) if text.startswith("file:") else text).replace("\\", "/")
    absolute = re.match(r"([A-Za-z]:|file:/)?/|[A-Za-z]:", path)
    if not absolute:
        return [path]
    parts = [part for part in path[absolute.end() :].split("/") if part]
    return ["/".join(parts[start:]) for start in range(len(parts))]
