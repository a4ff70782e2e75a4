"""The progress bar of work that may take long."""

from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def watched(things: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """Show a bar on a terminal after two seconds, and leave nothing behind; no bars in logs."""
    bar: Iterable[T] = tqdm(things, what, total, delay=2, leave=False, disable=None)
    return bar
