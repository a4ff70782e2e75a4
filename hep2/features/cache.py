"""Features computed once and kept: a memory map keyed by what made it."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from hep2.data.inputs import CellImages, Positions
from hep2.errors import HEp2Error

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

    A file that is damaged or of another shape is made anew. Two processes may make the same
    matrix at once; the last one to finish wins with the same bytes.

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
        cache_dir.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=cache_dir, prefix=f".{path.name}.")
        os.close(handle)
        try:
            fill(np.lib.format.open_memmap(temporary, "w+", np.float32, shape))
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise HEp2Error(
            f"cannot write features to {cache_dir}: {error.strerror}; free "
            f"{4 * np.prod(shape) / 1e6:.0f} MB there, or choose another cache_dir"
        ) from error
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def _kept(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """What the cache holds, or None where it holds nothing whole."""
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return matrix if matrix.shape == shape and matrix.dtype == np.float32 else None
