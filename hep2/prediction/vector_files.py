"""Vectors of cells on disk, batch by batch: .npy with a table beside it, .csv, or .parquet."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hep2.errors import HEp2Error
from hep2.files import escape_formula, whole_csv, whole_file

COLUMNS = ("id", "specimen", "fold", "held_out", "problem")

Vectors = NDArray[np.float32]
Write = Callable[[list[list[str]], Vectors], None]  # rows of COLUMNS, and the vectors


@contextmanager
def _npy(target: Path, shape: tuple[int, int], written: list[Path]) -> Iterator[Write]:
    """The vectors as one array, and a table beside it."""
    table = target.with_suffix(".csv")
    with ExitStack() as stack:
        file = stack.enter_context(whole_file(target))
        write_rows = stack.enter_context(_rows(table, COLUMNS))
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)

        def write(rows: list[list[str]], vectors: Vectors) -> None:
            file.write(vectors.astype("<f4").tobytes())
            write_rows(rows)

        yield write
    written += [target, table]


@contextmanager
def _csv(target: Path, shape: tuple[int, int], written: list[Path]) -> Iterator[Write]:
    """One row a cell, with its vector's values behind."""
    with _rows(target, [*COLUMNS, *(f"v{place}" for place in range(shape[1]))]) as write_rows:

        def write(rows: list[list[str]], vectors: Vectors) -> None:
            values = ([f"{value:.9g}" for value in row] for row in vectors)
            write_rows([[*row, *more] for row, more in zip(rows, values, strict=True)])

        yield write
    written.append(target)


@contextmanager
def _rows(path: Path, header: Sequence[str]) -> Iterator[Callable[[list[list[str]]], None]]:
    """A CSV that appears when it is whole; spreadsheets run nothing of it."""
    with whole_csv(path) as writer:
        writer.writerow(header)

        def write(rows: list[list[str]]) -> None:
            names = len(COLUMNS)
            writer.writerows([*map(escape_formula, row[:names]), *row[names:]] for row in rows)

        yield write


@contextmanager
def _parquet(target: Path, shape: tuple[int, int], written: list[Path]) -> Iterator[Write]:
    """COLUMNS and a column `vector` of lists."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise HEp2Error(
            f"out={target} needs the package pyarrow: pip install pyarrow, or choose .npy or .csv"
        ) from error
    vector = pyarrow.list_(pyarrow.float32(), shape[1])
    schema = pyarrow.schema([*((name, pyarrow.string()) for name in COLUMNS), ("vector", vector)])
    with whole_file(target) as file, ParquetWriter(file, schema) as writer:

        def write(rows: list[list[str]], vectors: Vectors) -> None:
            columns = dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
            flat = pyarrow.array(vectors.ravel())
            made = pyarrow.FixedSizeListArray.from_arrays(flat, shape[1])
            writer.write_table(pyarrow.table({**columns, "vector": made}))

        yield write
    written.append(target)


# By suffix: a context of a file, the shape of all vectors, a list that is told what was written.
SINKS: dict[str, Any] = {".npy": _npy, ".csv": _csv, ".parquet": _parquet}
