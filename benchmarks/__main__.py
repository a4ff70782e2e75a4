"""Run every benchmark that has a target: `make bench`, or `python -m benchmarks [name ...]`.

Rows that were measured take the place of those of the same name in results.json. Each says what it
was measured on; where the machine was not quiet, so does the table.
"""

import importlib
import sys
import time

from benchmarks.machine import Watch, warning
from benchmarks.measure import Row, show, write

PROGRAMS = (
    "training", "head", "loading", "startup", "first_line", "scaling", "memory", "sweep",
    "reproduce",
)  # fmt: skip


def main(names: list[str]) -> int:
    """Print the table, write results.json, and say by the exit code whether all targets are met."""
    rows: list[Row] = []
    watch = Watch()
    for name in names or PROGRAMS:
        started = time.monotonic()
        rows += importlib.import_module(f"benchmarks.{name}").rows()
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    machine = watch.told()
    show(rows)
    write(rows, machine)
    if said := warning(machine):
        print(f"note: {said}")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
