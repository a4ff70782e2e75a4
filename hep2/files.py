"""Writing files that are there whole or not at all."""

import contextlib
import os
import tempfile
from pathlib import Path

from hep2.errors import HEp2Error


def write_atomic(path: Path, content: bytes | memoryview | str) -> None:
    """Write a file so that it is there whole or not at all, whenever the process dies.

    Raises:
        HEp2Error: the folder cannot be written or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise HEp2Error(
            f"cannot write {path}: {error.strerror}; free some space or choose another folder"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make a renaming last; some network file systems know no such thing."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
