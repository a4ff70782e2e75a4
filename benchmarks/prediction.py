"""Prediction speed and memory: `python benchmarks/prediction.py RUN [--cells 20000] [--threads 2]`.

Writes 500 simulated cells as PNG, lists them as often as it takes in a CSV, and names them all, so
that decoding counts, but files are in the system's cache. Memory is the peak of the process after a
tenth of the cells and after all: it must not grow with their number but for their names.
"""

import argparse
import csv
import resource
import tempfile
import time
from pathlib import Path

import cv2
import torch

from hep2.data.synthetic import simulate
from hep2.prediction.predict import predict

IMAGES = 500


def main() -> None:
    """Print a row for each number of orientations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a finished run's directory, a method's, or a name")
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--orientations", type=int, nargs="+", default=[1, 8])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place, image in enumerate(simulate(cells=IMAGES, specimens=20).images):
            cv2.imwrite(str(folder / f"{place}.png"), image)
        print("orientations  cells  cells/s  peak MB after a tenth  peak MB after all")
        for orientations in arguments.orientations:
            listed(folder, arguments.cells // 10)
            run(folder, arguments.run, orientations)
            tenth = peak()
            listed(folder, arguments.cells)
            seconds = run(folder, arguments.run, orientations)
            speed = arguments.cells / seconds
            print(
                f"{orientations:12d}  {arguments.cells:5d}  {speed:7.0f}  {tenth:21.0f}  "
                f"{peak():17.0f}",
                flush=True,
            )


def listed(folder: Path, cells: int) -> None:
    """Write a manifest of so many cells."""
    with (folder / "cells.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "specimen"])
        writer.writerows([f"{cell % IMAGES}.png", f"s{cell % 20}"] for cell in range(cells))


def run(folder: Path, run_name: str, orientations: int) -> float:
    """Seconds of one prediction."""
    started = time.perf_counter()
    predict(
        run_name,
        Path("runs"),
        str(folder / "cells.csv"),
        str(folder / "calls.csv"),
        orientations,
    )
    return time.perf_counter() - started


def peak() -> float:
    """The process's greatest resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
