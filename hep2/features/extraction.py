"""Features of a fold's cells, computed once and kept: a memory map keyed by what made it."""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor, nn

from hep2.config import device, plain
from hep2.data.cells import Cells, Indices, short_hash
from hep2.data.fold import Fold
from hep2.data.inputs import BATCH, CachedFeatures, CellImages, MaskedImages, in_batches
from hep2.data.store import map_npy
from hep2.data.views import check_orientations
from hep2.errors import HEp2Error
from hep2.features.encoder import EncoderCheckpoint, own_encoders
from hep2.features.fisher import FisherVectors
from hep2.features.transforms import (
    Encoding,
    Extraction,
    Extractor,
    FisherEncoding,
    Learner,
    Representation,
    Transform,
)
from hep2.files import progress_bar, reserve, whole_file

BLOCK = 1 << 24  # bytes checked at a time
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """What a head is fed with."""

    inputs: CachedFeatures  # of all cells; of the fold's own where they serve no other fold
    checkpoints: list[EncoderCheckpoint]  # of the encoders whose latents they are, and no more
    learned_with_labels: bool | None  # whether labels were read in learning; None: not learned
    representation: Representation  # what has made them, and makes those of other cells


def features_of(cfg: DictConfig, fold: Fold) -> Features:
    """Compute the features of the cells, or find them in the cache.

    Every cell's are the mean over `features.orientations` of its flips and quarter turns.

    Raises:
        HEp2Error: an encoder is missing, or belongs to another fold; `features.orientations` is not
            a number from 1 to 8.
    """
    settings, turns = cfg.features, cfg.features.orientations
    check_orientations(turns, "features.orientations")
    checkpoints, where = own_encoders(cfg, fold), device(cfg)
    transforms, latents = list[Transform](), settings.get("latents", True)
    for one in checkpoints:
        encoder = one.encoder().to(where)
        transforms += [Encoding(encoder, one.view, one.made_by)] * latents
        if local := plain(settings.get("local")):
            transforms.append(fisher_encoding(encoder, one, local, fold))
    with_labels: bool | None = any(checkpoint.learned_with_labels for checkpoint in checkpoints)
    if not checkpoints:
        transforms = [extraction(plain(settings.extractor), fold)]
        with_labels = False if transforms[0].learned else None
    cache_dir = Path(cfg.cache_dir)
    split = fold.split
    own = np.unique(np.concatenate([split.train, split.val, split.test]))
    parts = [
        features_by(transform, fold.cells, cache_dir, turns, own if transform.of_fold else None)
        for transform in transforms
    ]
    matrix = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    # Only where an encoder's latents are all there is does its network make the features.
    makers = checkpoints if len(parts) == len(checkpoints) and latents else []
    representation = Representation(transforms, turns)
    return Features(CachedFeatures(matrix), makers, with_labels, representation)


def fisher_encoding(
    encoder: nn.Module, known: EncoderCheckpoint, settings: dict[str, Any], fold: Fold
) -> FisherEncoding:
    """Fisher vectors, fitted to maps of the fold's training cells; they take masks if it has any.

    Raises:
        HEp2Error: the encoder has no such map.
    """
    vectors: FisherVectors = instantiate(settings, _convert_="all")
    if not hasattr(encoder, "maps"):
        raise HEp2Error(f"features.local: the encoder {known.architecture} has no maps")
    masked = fold.cells.masks is not None
    transform = FisherEncoding(encoder, vectors, known.view, known.made_by, masked)
    images, train = CellImages(fold.cells, view=known.view), fold.split.train
    seed, share = int(fold.provenance["seed"]), -(-vectors.sample // len(train))
    rng = np.random.default_rng(seed)

    def some(image: Tensor) -> Matrix:
        columns = transform.maps(image).flatten(2).transpose(1, 2).numpy()  # (B, H * W, C)
        places = rng.random(columns.shape[:2]).argsort(axis=1)[:, :share, None]
        return np.take_along_axis(columns, places, axis=1).reshape(-1, columns.shape[2])

    vectors.fit(np.concatenate(list(in_batches(images, train, some))), seed)
    return transform


def fitted_extractor(settings: dict[str, Any], fold: Fold) -> Extractor:
    """The extractor of a configuration, fitted on the fold's training cells alone.

    `settings` are its `_target_` and arguments. Validation cells are held out as test cells are.
    """
    extractor: Extractor = instantiate(settings, _convert_="all")
    if isinstance(extractor, Learner):
        images = CellImages(fold.cells).gather(fold.split.train, epoch=None)
        extractor.fit(images[:, 0].numpy(), int(fold.provenance["seed"]))
    return extractor


def extraction(settings: dict[str, Any], fold: Fold) -> Extraction:
    """The transform of `fitted_extractor`; it takes masks if it can and the fold has any."""
    extractor = fitted_extractor(settings, fold)
    masked = getattr(extractor, "masked", False) and fold.cells.masks is not None
    return Extraction(extractor, settings, bool(masked))


def features_by(
    transform: Transform,
    cells: Cells,
    cache_dir: Path,
    orientations: int,
    needed: Indices | None = None,
) -> Matrix:
    """Features of N cells, means over this many orientations, or those in the cache.

    `needed` are the positions of those that are made, None: all are. The others are NaN.

    Shape:
        (N, D)
    """
    images = (MaskedImages if transform.masked else CellImages)(cells, view=transform.view)
    everyone = np.arange(len(cells))
    made = everyone if needed is None else needed

    def features(image: Tensor) -> Tensor:
        return transform.averaged(image, orientations)

    def fill(out: Matrix) -> None:  # batch by batch, so memory does not grow
        out[np.setdiff1d(everyone, made)] = np.nan
        batches, start = in_batches(images, made, features), 0
        for batch in progress_bar(batches, "features", math.ceil(len(made) / BATCH)):
            out[made[start : start + len(batch)]] = batch.numpy()
            start += len(batch)

    size = next(in_batches(images, everyone[:1], transform)).shape[1]
    key = f"{cells.key}-{transform.key}-{orientations}"
    if transform.masked and cells.masks is not None:  # which are no part of the cells' own key
        key += f"-{short_hash(cells.masks.data)}"
    if len(made) < len(cells):
        key += f"-{short_hash(made.tobytes())}"
    return cached(cache_dir, key, (len(cells), size), fill)


def cached(
    cache_dir: Path, key: str, shape: tuple[int, ...], fill: Callable[[Matrix], None]
) -> Matrix:
    """The float32 matrix of a key, read-only: mapped from the cache, or computed and kept there.

    A file that is damaged (its checksum is read every time) or of another shape is recomputed. Two
    processes may compute the same matrix at once; the last to finish wins with the same bytes.

    `key` names everything that the matrix depends on, `fill` writes its values.

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
            f"{4 * math.prod(shape) / 1e6:.0f} MB there, or choose another cache_dir"
        ) from error
    if (kept := _kept(path, shape)) is None:
        raise HEp2Error(f"{path} is damaged as soon as it is written: check the disk")
    return kept


def _kept(path: Path, shape: tuple[int, ...]) -> Matrix | None:
    """What the cache holds, or None where it holds nothing whole."""
    try:
        matrix = map_npy(path)
        with path.open("rb") as file:
            checksum = _checksum(file, path.stat().st_size - 4)
            whole = checksum == file.read() and matrix.shape == shape
    except (OSError, ValueError):
        return None
    return matrix if whole and matrix.dtype == np.float32 else None


def _write(file: IO[bytes], shape: tuple[int, ...], fill: Callable[[Matrix], None]) -> None:
    """A .npy file with the CRC-32 of all of it behind, where readers of .npy do not look."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    file.flush()
    start = file.tell()
    length = start + 4 * math.prod(shape)
    reserve(file, length)  # a full disk is a bus error when a memory map is written to
    matrix = np.memmap(file, np.float32, "r+", start, shape)
    fill(matrix)
    matrix.flush()
    file.seek(0)
    file.write(_checksum(file, length))


def _checksum(file: IO[bytes], length: int) -> bytes:
    """The CRC-32 of the next `length` bytes."""
    checksum = 0
    while length > 0 and (block := file.read(min(BLOCK, length))):
        checksum = zlib.crc32(block, checksum)
        length -= len(block)
    return checksum.to_bytes(4, "little")
