"""Spoilt files for the fuzz tests: a valid file, changed in a few places."""

import faulthandler
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("HEP2_FUZZ", "12"))  # `make fuzz` asks for thousands
LONGEST = 60  # seconds for one input; the process is then ended, with a traceback of where it was
MOST_MEMORY = 1 << 30  # bytes that one door may add to the process

EXTREMES = (
    b"", b"\0", b"-1", b"0", b"1e999", b"nan", b"NaN", b"Infinity", b"-Infinity", b"null", b"true",
    b"9" * 30, b"9" * 5000, b"4294967296", b"9223372036854775808", b'"', b"'", b",", b"\n", b"\r",
    b"\r\n", b"\xff\xfe", b"\xef\xbb\xbf", b"=1+1", b"../..", b"/etc/passwd", b"[" * 3000,
    b"(" * 300, b"{", b"}", b"PK\x03\x04", b"a" * 140_000, b"${oc.env:HOME}", b"???",
    b"\xed\xa0\x80",
)  # fmt: skip

Mutation = tuple[str, float, float, bytes]


def _bit(data: bytes, at: int, to: int, extra: bytes) -> bytes:
    if not data:
        return extra
    at = min(at, len(data) - 1)
    return data[:at] + bytes([data[at] ^ (1 << to % 8)]) + data[at + 1 :]


def _splice(data: bytes, at: int, to: int, extra: bytes) -> bytes:
    """A piece of the file once more, somewhere else."""
    length = 1 + len(extra) * 7
    return data[:at] + data[to : to + length] + data[at:]


def _line(data: bytes, at: int, to: int, extra: bytes) -> bytes:
    """Two lines change places, or one is dropped, doubled or replaced."""
    lines = data.split(b"\n")
    one, two = at % len(lines), to % len(lines)
    if not extra:
        del lines[one]
    elif len(extra) % 3 == 0:
        lines.insert(two, lines[one])
    elif len(extra) % 3 == 1:
        lines[one], lines[two] = lines[two], lines[one]
    else:
        lines[one] = extra
    return b"\n".join(lines)


def _number(data: bytes, at: int, to: int, extra: bytes) -> bytes:
    """The first number behind a place becomes another."""
    digits = b"0123456789.-"
    start = next((i for i in range(at, len(data)) if data[i] in digits), len(data))
    end = next((i for i in range(start, len(data)) if data[i] not in digits), len(data))
    return data[:start] + extra + data[end:]


HOW: dict[str, Callable[[bytes, int, int, bytes], bytes]] = {
    "bit": _bit,
    "cut": lambda data, at, to, extra: data[:at],
    "drop": lambda data, at, to, extra: data[: min(at, to)] + data[max(at, to) :],
    "insert": lambda data, at, to, extra: data[:at] + extra + data[at:],
    "overwrite": lambda data, at, to, extra: data[:at] + extra + data[at + len(extra) :],
    "splice": _splice,
    "line": _line,
    "number": _number,
}

_places = st.floats(0, 1, exclude_max=True)
mutations = st.lists(
    st.tuples(
        st.sampled_from(sorted(HOW)),
        # Heads of files hold their sizes and types: half of all changes fall there.
        _places | _places.map(lambda place: place**6),
        _places,
        st.sampled_from(EXTREMES) | st.binary(max_size=8),
    ),
    min_size=1,
    max_size=4,
)


def spoilt(data: bytes, changes: list[Mutation]) -> bytes:
    for how, at, to, extra in changes:
        data = HOW[how](data, int(at * len(data)), int(to * len(data)), extra)
    return data


def fuzzed(door: Callable[[list[Mutation]], Any]) -> None:
    """Try a door with many inputs; an exception, a hang or too much memory fails the test."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=EXAMPLES < 1000,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations)
    def attempt(changes: list[Mutation]) -> None:
        with no_hang():
            door(changes)

    attempt()
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < MOST_MEMORY, f"{grown / 2**20:.0f} MiB"


@contextmanager
def no_hang(longest: float = LONGEST) -> Iterator[None]:
    faulthandler.dump_traceback_later(longest, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
