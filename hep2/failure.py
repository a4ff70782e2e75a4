"""Why a run failed: one sentence in its directory, until somebody tries again."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hep2.errors import HEp2Error
from hep2.files import write_atomic
from hep2.redact import redacted

FILE = "failed.txt"
LONGEST = 500  # characters


@contextmanager
def noted(run_dir: Path) -> Iterator[None]:
    """Keep the reason where what is done here raises; an interruption is no failure."""
    try:
        yield
    except Exception as error:
        what = "" if isinstance(error, HEp2Error) else f"{type(error).__name__}: "
        note(run_dir, f"{what}{error}")
        raise


def note(run_dir: Path, reason: str) -> None:
    """Keep a reason, unless there is one: of several ranks the first says what was wrong."""
    if not (run_dir / FILE).exists():
        sentence = " ".join(str(redacted(reason)).split())[:LONGEST]
        with contextlib.suppress(HEp2Error):  # no room for it, perhaps the very reason
            write_atomic(run_dir / FILE, f"{sentence}\n")


def forget(run_dir: Path) -> None:
    """Begin anew."""
    with contextlib.suppress(OSError):
        (run_dir / FILE).unlink()


def reason(run_dir: Path) -> str | None:
    """The sentence that was kept; None where nothing failed."""
    try:
        return (run_dir / FILE).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
