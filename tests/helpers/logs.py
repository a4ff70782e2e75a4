"""What was logged meanwhile."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def warned(match: str = "") -> Iterator[list[str]]:
    """The warnings that modules of data log meanwhile; one of them must match."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("hep2.data")
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
    assert any(re.search(match, text) for text in said), said
