"""Prediction: cells a second, and memory at ten thousand and a hundred thousand cells.

    python -m benchmarks.prediction RUN [--speed 2000] [--memory 10000 100000] [--threads 2]

500 simulated cells are written as PNG. A manifest lists them as often as it takes; a folder holds
as many hard links to them. Decoding counts, but the files are in the system's cache. Every row is a
process of its own; its memory is the greatest resident set that it ever had. Speeds are the faster
of two. Exit code 1 where memory grows by a tenth or more. `--speed 0` leaves speed out. Linux.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import peak_mb

IMAGES = 500
GROWTH = 1.10  # of memory, at most, from the fewer cells to the more


def main() -> int:
    """Print a row for each way to ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a finished run's directory, a method's, or a name")
    parser.add_argument("--speed", type=int, default=2000)
    parser.add_argument("--memory", type=int, nargs=2, default=[10_000, 100_000])
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "images")
        if asked.speed:
            print_speed(folder, asked.run, asked.speed, asked.threads)
        grown = [
            print_memory(write, folder, asked.run, asked.memory, asked.threads)
            for write in (write_manifest, write_folder)
        ]
    return 0 if max(grown) < GROWTH else 1


def print_speed(folder: Path, run: str, cells: int, threads: int) -> None:
    """Cells a second with one orientation and with eight."""
    source = write_manifest(folder, cells)
    for orientations in (1, 8):
        seconds = min(measured(run, source, orientations, threads)[0] for _ in range(2))
        print(
            f"{cells} cells, orientations {orientations}: {cells / seconds:.0f} cells/s", flush=True
        )


def print_memory(
    write: Callable[[Path, int], Path], folder: Path, run: str, counts: list[int], threads: int
) -> float:
    """Memory for fewer and for more cells; how many times as much the latter take."""
    peaks = []
    for cells in counts:
        source = write(folder, cells)
        peaks.append(measured(run, source, 1, threads)[1])
        print(f"{cells} cells, {write.__name__[6:]}: {peaks[-1]:.0f} MB", flush=True)
    return peaks[1] / peaks[0]


def write_images(folder: Path) -> None:
    """The simulated cells, in a process that ends."""
    program = (
        "import cv2, sys; from hep2.data.simulator.cells import simulate\n"
        f"for place, image in enumerate(simulate(cells={IMAGES}, specimens=20).images):\n"
        "    cv2.imwrite(f'{sys.argv[1]}/{place}.png', image)"
    )
    folder.mkdir()
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)


def write_manifest(folder: Path, cells: int) -> Path:
    """A CSV that lists the images over and over, as of 20 specimens."""
    path = folder / f"manifest{cells}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "specimen"])
        writer.writerows([f"images/{i % IMAGES}.png", f"s{i % 20}"] for i in range(cells))
    return path


def write_folder(folder: Path, cells: int) -> Path:
    """A folder of links to the images, over and over."""
    path = folder / f"folder{cells}"
    path.mkdir()
    for place in range(cells):
        os.link(folder / "images" / f"{place % IMAGES}.png", path / f"cell{place:06}.png")
    return path


def measured(run: str, source: Path, orientations: int, threads: int) -> tuple[float, float]:
    """Seconds and greatest resident memory (MB) of one prediction."""
    program = "from benchmarks import prediction; prediction.predict_once()"
    words = [run, source, source.with_suffix(".out.csv"), orientations, threads]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak


def predict_once() -> None:
    """In a process of its own: predict, and print seconds (without imports) and memory."""
    import torch

    from hep2.prediction.predict import predict

    run, images, out, orientations, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    started = time.perf_counter()
    predict(run, Path("runs"), images, out, int(orientations))
    seconds = time.perf_counter() - started
    print(seconds, peak_mb())


if __name__ == "__main__":
    sys.exit(main())
