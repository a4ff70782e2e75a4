"""Files that are written whole or not at all, locks, the progress bar, text for spreadsheets."""

import csv
import errno
import io
import logging
import os
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from filelock import BaseFileLock, FileLock, Timeout
from tqdm import tqdm

from hep2.errors import HEp2Error

log = logging.getLogger(__name__)

GRACE = 1.0  # seconds; somebody who only looks at the lock holds it for an instant
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what a file system without locks says
T = TypeVar("T")


@contextmanager
def locked(file: Path, wait: bool) -> Iterator[None]:
    """Hold a lock file; the system lets it go when the process ends, however that happens.

    The file itself stays and says who holds it, or held it last; nothing is to be cleaned up. On
    NFS the lock holds between machines where the server supports locks (NFS 4, or a lock daemon).
    A forked worker does not hold it. Another process that holds it is waited for, if so asked.

    Raises:
        HEp2Error: another process holds the lock, or the file cannot be written.
    """
    lock = FileLock(file, fallback_to_soft=False)
    try:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _acquire(lock, file, wait)
            file.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise _cannot_write(file, error) from error
            log.warning("%s: no lock (%s); run nothing else there", file, error.strerror)
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, file: Path, wait: bool) -> None:
    try:
        lock.acquire(timeout=GRACE, poll_interval=0.1)
    except Timeout:
        used = f"{file.parent} is in use by {_named(file)}"
        if not wait:
            remedy = "wait for it, stop it, or choose another name=..."
            raise HEp2Error(f"{used}: {remedy}") from None
        log.info("%s: waiting", used)
        lock.acquire(poll_interval=0.1)


def holder(file: Path) -> str | None:
    """Who holds a lock file: "process 123 on host", or None where it is free.

    Whoever may read the file may ask, and two who ask at once do not disturb each other.
    """
    import fcntl

    try:
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(file)
    except OSError:  # there is none, or a file system without locks
        pass
    return None


def _named(file: Path) -> str:
    return file.read_text(errors="replace")[:200].strip() or "another process"


def write_atomic(path: Path, content: bytes | memoryview | str) -> None:
    """Write a file so that it is there whole or not at all, whenever the process dies.

    Raises:
        HEp2Error: the folder cannot be written or the disk is full.
    """
    try:
        with whole_file(path) as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> HEp2Error:
    remedy = "free some space or choose another folder"
    return HEp2Error(f"cannot write {path}: {error.strerror}; {remedy}")


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file, to be written and read, that gets its name when all is written and on the disk.

    Raises:
        OSError: the folder cannot be written or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    with suppress(OSError), ExitStack() as stack:  # some network file systems sync no folder
        folder = os.open(path.parent, os.O_RDONLY)
        stack.callback(os.close, folder)
        os.fsync(folder)


@contextmanager
def whole_csv(path: Path) -> Iterator[Any]:
    """A `csv.writer` to a file that appears under its name when it is whole."""
    with whole_file(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        yield csv.writer(text, lineterminator="\n")
        text.detach()  # writes what it holds; the file is not its own to close


def reserve(file: IO[bytes], length: int) -> None:
    """Make room for a file on the disk where the system can promise that: better now than later.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, length)
    else:
        file.truncate(length)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # begins one; the last four are wide


def escape_formula(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def progress_bar(things: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """Show a bar on a terminal after two seconds, and leave nothing behind; no bars in logs."""
    bar: Iterable[T] = tqdm(things, what, total, delay=2, leave=False, disable=None)
    return bar
