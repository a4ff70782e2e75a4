"""Writing files that are there whole or not at all."""

import contextlib
import logging
import os
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from tqdm import tqdm

from hep2.errors import HEp2Error

log = logging.getLogger(__name__)

GRACE = 1.0  # seconds; somebody who only looks at the lock holds it for an instant
_held: set[int] = set()


def _let_go_after_fork() -> None:
    # A forked worker of a data loader shares the open file, and would keep the lock of a dead run.
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go_after_fork)


@contextmanager
def locked(file: Path, wait: bool) -> Iterator[None]:
    """Hold a lock file; the system lets it go when the process ends, however that happens.

    The file itself stays and says who holds it, or held it last; nothing is to be cleaned up. On
    NFS the lock holds between machines where the server supports locks (NFS 4, or a lock daemon).

    Args:
        file: made where it does not exist.
        wait: wait for another process, instead of complaining.

    Raises:
        HEp2Error: another process holds the lock, or the file cannot be written.
    """
    handle = _open(file)
    _held.add(handle)
    try:
        _take(handle, file, wait)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


def holder(file: Path) -> str | None:
    """Who holds a lock file: "process 123 on host", or None where it is free."""
    import fcntl

    try:
        handle = os.open(file, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return os.read(handle, 200).decode(errors="replace").strip() or "another process"
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(handle)


def _open(file: Path) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise HEp2Error(
            f"cannot write {file}: {error.strerror}; free some space or choose another folder"
        ) from error


def _take(handle: int, file: Path, wait: bool) -> None:
    import fcntl

    until = time.monotonic() + GRACE
    told = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            who = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
        except OSError as error:
            log.warning("%s: no lock (%s); run nothing else there", file, error.strerror)
            return
        if time.monotonic() > until:
            if not wait:
                raise HEp2Error(
                    f"{file.parent} is in use by {who}: wait for it, stop it, or choose another "
                    "name=..."
                )
            if not told:
                log.info("%s is in use by %s: waiting", file.parent, who)
                told = True
        time.sleep(0.1)


def write_atomic(path: Path, content: bytes | memoryview | str) -> None:
    """Write a file so that it is there whole or not at all, whenever the process dies.

    Raises:
        HEp2Error: the folder cannot be written or the disk is full.
    """
    try:
        with whole_file(path) as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise HEp2Error(
            f"cannot write {path}: {error.strerror}; free some space or choose another folder"
        ) from error


@contextlib.contextmanager
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
    _sync_folder(path.parent)


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


_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # begins one; the last four are wide


def escape_formula(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


T = TypeVar("T")


def watched(things: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """Show a bar on a terminal after two seconds, and leave nothing behind; no bars in logs."""
    bar: Iterable[T] = tqdm(things, what, total, delay=2, leave=False, disable=None)
    return bar
