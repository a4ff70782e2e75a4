"""Features computed once and kept: a memory map keyed by what made it."""

import hashlib
import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from hep2.data.inputs import CellImages, Positions
from hep2.data.npy import map_npy
from hep2.errors import HEp2Error
from hep2.files import whole_file

BLOCK = 1 << 24  # bytes checked at a time
BATCH = 256  # cells a pass; an encoder without gradients needs little memory


def digest_of_weights(module: nn.Module) -> str:
    """16 hex digits that change with any parameter or buffer."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def turned(image: Tensor, orientation: int) -> Tensor:
    """One of the eight flips and quarter turns of square images; 0 leaves them as they are.

    Shape:
        (B, 1, H, H) -> (B, 1, H, H)
    """
    turns, flip = orientation % 4, orientation >= 4
    return torch.rot90(image.flip(-1) if flip else image, turns, dims=(-2, -1))


def fill(
    extract: Callable[[Tensor], Tensor],
    images: CellImages,
    cells: Positions,
    out: NDArray[np.float32],
) -> None:
    """Write the features of some cells, in their first orientations, into `out`.

    Args:
        extract: (B, 1, H, W) -> (B, D).
        images: the data set's images.
        cells: positions of the cells.
        out: shape (cells, orientations, D); filled batch by batch, so memory does not grow.
    """
    steps = range(0, len(cells), BATCH)
    for start in tqdm(steps, "features", unit="batch", delay=2, leave=False, disable=None):
        batch = images.gather(cells[start : start + BATCH], epoch=None)
        for turn in range(out.shape[1]):
            out[start : start + BATCH, turn] = extract(turned(batch, turn)).numpy()


def encode(
    encoder: nn.Module, images: CellImages, cells: Positions, out: NDArray[np.float32]
) -> None:
    """Write the latents of some cells, in their first orientations, into `out`.

    Args:
        encoder: frozen; its device is where the work is done.
        images: the data set's images.
        cells: positions of the cells to encode.
        out: shape (cells, orientations, D).
    """
    device = next(encoder.parameters()).device
    with torch.inference_mode():
        fill(lambda batch: encoder(batch.to(device)).float().cpu(), images, cells, out)


def cached(
    cache_dir: Path,
    key: str,
    shape: tuple[int, ...],
    fill: Callable[[NDArray[np.float32]], None],
) -> NDArray[np.float32]:
    """The float32 matrix of a key, read-only: mapped from the cache, or made and kept there.

    A file that is damaged (its checksum is read every time) or of another shape is made anew. Two
    processes may make the same matrix at once; the last one to finish wins with the same bytes.

    Args:
        cache_dir: where caches are kept.
        key: names everything that the matrix hangs on.
        shape: of the matrix.
        fill: writes the values into a matrix of that shape.

    Raises:
        HEp2Error: the cache cannot be written.
    """
    path = cache_dir / f"features-{key}.npy"
    if (kept := _kept(path, shape)) is not None:
        return kept
    try:
        with whole_file(path) as file:
            _write(file, shape, fill)
    except OSError as error:
        raise HEp2Error(
            f"cannot write features to {cache_dir}: {error.strerror}; free "
            f"{4 * np.prod(shape) / 1e6:.0f} MB there, or choose another cache_dir"
        ) from error
    if (kept := _kept(path, shape)) is None:
        raise HEp2Error(f"{path} is damaged as soon as it is written: check the disk")
    return kept


def _write(
    file: IO[bytes], shape: tuple[int, ...], fill: Callable[[NDArray[np.float32]], None]
) -> None:
    """A .npy file with the CRC-32 of all of it behind, where readers of .npy do not look."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    file.flush()
    start = file.tell()
    # Room first: a full disk is an error here, and a bus error when a memory map is written to.
    _reserve(file, start + 4 * math.prod(shape))
    matrix = np.memmap(file, np.float32, "r+", start, shape)
    fill(matrix)
    matrix.flush()
    file.seek(0)
    checksum, _ = _checksums(file, start + 4 * math.prod(shape))
    file.write(checksum)


def _reserve(file: IO[bytes], length: int) -> None:
    """Make a file so long, with room on the disk for all of it where the system can promise that.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, length)
    else:
        file.truncate(length)


def _checksums(file: IO[bytes], length: int) -> tuple[bytes, bytes]:
    """The CRC-32 of so many bytes, and what follows them."""
    checksum = 0
    while length > 0 and (block := file.read(min(BLOCK, length))):
        checksum = zlib.crc32(block, checksum)
        length -= len(block)
    return checksum.to_bytes(4, "little"), file.read(5)


def _kept(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """What the cache holds, or None where it holds nothing whole."""
    try:
        matrix = map_npy(path)
        with path.open("rb") as file:
            found, written = _checksums(file, path.stat().st_size - 4)
    except (OSError, ValueError):
        return None
    whole = found == written and matrix.shape == shape and matrix.dtype == np.float32
    return matrix if whole else None
