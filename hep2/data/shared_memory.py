"""Where worker processes leave batches for the trainer."""

import shutil
from pathlib import Path

from hep2.errors import HEp2Error

FOLDER = Path("/dev/shm")  # of Linux; other systems have no such folder, and no bound of its own
AHEAD = 2  # batches that each worker prepares: torch's default


def check_room(batch: int, workers: int) -> None:
    """Make sure that the batches of all workers fit, and one that is being read.

    Where one does not fit, its worker says so and goes on, and the trainer waits for it for ever.

    Args:
        batch: size of a batch, bytes.
        workers: how many processes prepare batches.

    Raises:
        HEp2Error: they do not fit; containers often have 64 MB or less.
    """
    needed = batch * (AHEAD * workers + 1)
    if workers and FOLDER.is_dir() and (free := shutil.disk_usage(FOLDER).free) < needed:
        raise HEp2Error(
            f"data.workers={workers} needs {needed / 1e6:.1f} MB of shared memory, but {FOLDER} "
            f"has {free / 1e6:.1f} MB: use data.workers=0, or enlarge it (docker run --shm-size=1g)"
        )
