"""Run every benchmark that has a target: `make bench`, or `python -m benchmarks [name ...]`.

Rows that were measured take the place of those of the same name in results.json.
"""

import importlib
import sys
import time

from benchmarks.measure import Row, show, write

PROGRAMS = ("training", "head", "loading", "startup", "scaling", "reproduce")


def main(names: list[str]) -> int:
    """Print the table, write results.json, and say by the exit code whether all targets are met."""
    rows: list[Row] = []
    for name in names or PROGRAMS:
        started = time.monotonic()
        rows += importlib.import_module(f"benchmarks.{name}").rows()
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    show(rows)
    write(rows)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
