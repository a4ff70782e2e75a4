"""Whether time and memory grow no faster than the work.

    python -m benchmarks scaling

Three processes take turns, one epoch a turn, on 1, 4 and 16 times the synthetic set (cells and
specimens), by `hep2.run.fit`. The network is made so small that what is not arithmetic shows.

Time: the exponent of a power law through the three medians. Memory: the peak of private memory
(RssAnon: the resident set without the pages of mapped files) from the first line on, with the
simulation of the cells and the building of their store.
"""

import math
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.measure import TURNS, Row, configured, epochs_in_turns, medians, processes

TIMES = (1, 4, 16)
SMALL = (
    "model.network.widths=[2,2,2,2]",
    "stage.batch_size=64",
    "trainer.precision=32-true",
    "logger=csv",
    "~callbacks.progress",
)
EVERY = 0.02  # seconds between looks at the memory


def rows() -> list[Row]:
    """Two rows."""
    with tempfile.TemporaryDirectory() as folder:
        sides = {str(times): (str(times), folder) for times in TIMES}
        with processes("benchmarks.scaling", sides) as running:
            seconds = {int(times): each for times, each in medians(running).items()}
        peaks = {times: float((Path(folder) / f"peak-{times}").read_text()) for times in TIMES}
    least, most = TIMES[0], TIMES[-1]
    return [
        Row(
            f"seconds an epoch, {most}x cells against {least}x: fitted exponent",
            seconds[most],
            seconds[least],
            "s",
            exponent(seconds),
            1.05,
            at_least=False,
        ),
        Row(
            f"peak private memory, {most}x cells against {least}x",
            peaks[most] / 1e6,
            peaks[least] / 1e6,
            "MB",
            peaks[most] / peaks[least],
            1.2,
            at_least=False,
        ),
    ]


def exponent(seconds: dict[int, float]) -> float:
    """Slope of the least-squares line through (log times, log seconds)."""
    x = [math.log(times) for times in seconds]
    y = [math.log(each) for each in seconds.values()]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - middle_x) ** 2 for a in x)


def private_memory() -> int:
    """Bytes of private memory of this process. Linux only."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


def watch(file: Path) -> None:
    """Keep the peak of private memory in a file, from a thread, as long as the process lives."""

    def look() -> None:
        peak = 0
        while True:
            now = private_memory()
            if now > peak:
                peak = now
                file.write_text(str(peak))
            time.sleep(EVERY)

    threading.Thread(target=look, daemon=True).start()


def main(times: int, folder: str) -> None:
    """Serve one size."""
    watch(Path(folder) / f"peak-{times}")
    from hep2.processor import keep_freed_memory

    keep_freed_memory()
    from hep2.run import fit

    data = configured().data.source
    epochs_in_turns()
    fit(
        configured(
            *SMALL,
            f"data.source.cells={times * data.cells}",
            f"data.source.specimens={times * data.specimens}",
            f"stage.epochs={TURNS + 2}",
            f"runs_dir={folder}/{times}",
            f"cache_dir={folder}/{times}",
            "trainer.accelerator=cpu",
            "trainer.enable_progress_bar=false",
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
