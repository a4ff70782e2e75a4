"""NumPy files opened as read-only memory maps, and nothing else: no pickles, no archives."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def map_npy(path: Path) -> NDArray[Any]:
    """Map a .npy file.

    `np.load` looks into the file to choose a reader, one of which is for zip archives; here the
    reader is fixed. It never unpickles, and a header that promises more than the file holds is an
    error before any memory is spent on it.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no whole .npy file of numbers.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # the header is parsed as Python: its errors are of all kinds
        raise ValueError(f"{path.name} is no .npy file ({type(error).__name__})") from error
