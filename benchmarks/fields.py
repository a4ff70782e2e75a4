"""Whole fields: seconds and memory of a prediction for twenty of them and for two hundred.

    python -m benchmarks.fields RUN [--fields 20 200] [--threads 2]
    python -m benchmarks.fields --write FOLDER [--specimens 15]

Fields of 1388 x 1040 with 50 simulated cells each, beside them their label images; ten are drawn,
the others are hard links to them. Every row is a process of its own; its memory is the greatest
resident set that it ever had. Exit code 1 where memory grows by a tenth or more. With `--write`
fields are only written: `fields/<specimen>.png` and `masks/<specimen>_cp_masks.png`. Linux.
"""

import argparse
import copy
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import peak_mb

SHAPE = (1040, 1388)  # of a field, pixels
CELLS = 50
SIDE = 96  # of the simulated cell that is put into it, pixels
DRAWN = 10  # fields
GROWTH = 1.10  # of memory, at most


def simulated_field(
    pattern: str, number: int, shape: tuple[int, int] = SHAPE, cells: int = CELLS, side: int = SIDE
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """A field of one simulated specimen and its label image: cells on a grid, a bit out of line.

    A cell fades into the specimen's background where its nucleus ends, so its neighbours are those
    of the field. Labels have gaps; the first cell is cut off by the border.
    """
    from hep2.data.simulator.microscope import FIELD, _draw_outline, photograph
    from hep2.data.simulator.patterns import PATTERNS, draw_cells

    rng = np.random.default_rng([list(PATTERNS).index(pattern), number])
    traits = draw_cells(pattern, cells, rng)
    outlines = _draw_outline(traits, copy.deepcopy(rng))  # those that `photograph` draws first
    grid = (np.arange(side) + 0.5 - side / 2) * (FIELD / side)
    depth = outlines.depth(grid)
    images = photograph(traits, side, rng).astype(np.float64)
    outside = images[depth > 1.5]
    field = rng.normal(np.median(outside), 2, shape)
    labels = np.zeros(shape, np.uint16)
    columns = int(np.ceil(np.sqrt(cells * shape[1] / shape[0])))
    rows = -(-cells // columns)
    for cell in range(cells):
        at = np.array([cell // columns, cell % columns]) * (np.array(shape) // (rows, columns))
        room = np.maximum(np.array(shape) // (rows, columns) - side, 1)
        top, left = at + rng.integers(0, room)
        if cell == 0:
            top = left = -side // 4
        _paste(field, labels, images[cell], depth[cell], (int(top), int(left)), 1 + 3 * cell)
    return np.clip(np.rint(field), 0, 255).astype(np.uint8), labels


def _paste(
    field: NDArray[np.float64],
    labels: NDArray[np.uint16],
    image: NDArray[np.float64],
    depth: NDArray[np.float64],
    at: tuple[int, int],
    label: int,
) -> None:
    """Put a cell into a field; what lies outside of it is left out."""
    here = tuple(slice(max(0, start), max(0, start + len(image))) for start in at)
    height, width = field[here].shape
    part = (slice(max(0, -at[0]), max(0, -at[0]) + height),
            slice(max(0, -at[1]), max(0, -at[1]) + width))  # fmt: skip
    opaque = np.clip((1.5 - depth[part]) / 0.4, 0, 1)
    field[here] = opaque * image[part] + (1 - opaque) * field[here]
    labels[here][depth[part] < 1] = label


def write_fields(folder: Path, specimens: int) -> None:
    """Fields of so many specimens, pattern by pattern, and their masks."""
    import cv2

    from hep2.data.simulator.patterns import PATTERNS

    for name in ("fields", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for place in range(specimens):
        pattern = list(PATTERNS)[place % len(PATTERNS)]
        field, labels = simulated_field(pattern, place)
        cv2.imwrite(str(folder / f"fields/s{place:02d}_{pattern}.png"), field)
        cv2.imwrite(str(folder / f"masks/s{place:02d}_{pattern}_cp_masks.png"), labels)


def main() -> int:
    """Print a row for each number of fields."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", help="a finished run's directory, a method's, or a name")
    parser.add_argument("--fields", type=int, nargs=2, default=[20, 200])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--specimens", type=int, default=15)
    asked = parser.parse_args()
    if asked.write:
        write_fields(asked.write, asked.specimens)
        return 0
    with tempfile.TemporaryDirectory() as name:
        drawn = Path(name, "drawn")
        write_fields(drawn, DRAWN)
        peaks = [_row(drawn, asked.run, count, asked.threads) for count in asked.fields]
    return 0 if peaks[1] < GROWTH * peaks[0] else 1


def _row(drawn: Path, run: str, count: int, threads: int) -> float:
    """Predict so many fields of ten specimens; print and return the greatest memory, MB."""
    folder = drawn.with_name(f"fields{count}")
    for place in range(count):
        for kind in ("fields", "masks"):
            source = sorted((drawn / kind).iterdir())[place % DRAWN]
            target = folder / kind / f"s{place % DRAWN}" / f"{place:04d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
    program = "from benchmarks import fields; fields.predict_once()"
    done = subprocess.run(
        [sys.executable, "-c", program, run, str(folder), str(threads)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    seconds, peak = map(float, done.stdout.split())
    print(f"{count} fields of {CELLS} cells: {seconds:.1f} s, {peak:.0f} MB", flush=True)
    return peak


def predict_once() -> None:
    """In a process of its own: predict, and print seconds (without imports) and memory."""
    import torch

    from hep2.prediction.predict import predict

    run, folder, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    started = time.perf_counter()
    out = str(Path(folder, "calls.csv"))
    predict(run, Path("runs"), f"{folder}/fields", out, 1, masks=f"{folder}/masks")
    seconds = time.perf_counter() - started
    print(seconds, peak_mb())


if __name__ == "__main__":
    sys.exit(main())
