"""Features of a fold's cells, computed once and kept: a memory map keyed by what made it."""

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor, nn

from hep2.config import device, plain
from hep2.data.augment import check_orientations, oriented
from hep2.data.cells import Cells
from hep2.data.fold import Fold
from hep2.data.inputs import BATCH, CachedFeatures, CellImages, in_batches
from hep2.data.store import map_npy
from hep2.errors import HEp2Error
from hep2.features.encoder import EncoderCheckpoint, own_encoders
from hep2.features.fisher import FisherVectors, normalised
from hep2.features.masked import MaskedImages
from hep2.files import progress_bar, reserve, whole_file

BLOCK = 1 << 24  # bytes checked at a time
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """What a head is fed with."""

    inputs: CachedFeatures
    checkpoints: list[EncoderCheckpoint]  # of the encoders whose latents they are, and no more
    learned_with_labels: bool | None  # whether labels were read in learning; None: not learned


def features_of(cfg: DictConfig, fold: Fold) -> Features:
    """Compute the features of all cells, or find them in the cache.

    Every cell's are the mean over `features.orientations` of its flips and quarter turns.

    Raises:
        HEp2Error: an encoder is missing, or belongs to another fold; `features.orientations` is not
            a number from 1 to 8.
    """
    settings, turns = cfg.features, cfg.features.orientations
    check_orientations(turns, "features.orientations")
    checkpoints, where = own_encoders(cfg, fold), device(cfg)
    transforms, latents = [], settings.get("latents", True)
    for one in checkpoints:
        transforms += [encoding(one.encoder().to(where), one.view)] * latents
        if local := plain(settings.get("local")):
            transforms.append(fisher_encoding(one, local, fold, where))
    with_labels: bool | None = any(checkpoint.learned_with_labels for checkpoint in checkpoints)
    if not checkpoints:
        transforms = [extraction(plain(settings.extractor), fold)]
        with_labels = False if transforms[0].learned else None
    cache_dir = Path(cfg.cache_dir)
    parts = [features_by(transform, fold.cells, cache_dir, turns) for transform in transforms]
    matrix = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    # Only where an encoder's latents are all there is does its network make the features.
    makers = checkpoints if len(parts) == len(checkpoints) and latents else []
    return Features(CachedFeatures(matrix), makers, with_labels)


@dataclass(frozen=True)
class Transform:
    """What turns cells into vectors: all that tells an encoder from an extractor."""

    function: Callable[[Tensor], Tensor]  # (B, 1, H, W) -> (B, D), on the CPU
    key: str  # names it, with all that it has learned
    view: str = "intensity"  # of the cells that it takes
    learned: bool = True  # whether it has learned anything
    finish: Callable[[Tensor], Tensor] | None = None  # done to the mean over orientations
    masked: bool = False  # whether it takes masks as well, as a second channel


def encoding(encoder: nn.Module, view: str = "intensity") -> Transform:
    """The transform of an encoder, which is frozen here and works on the device where it is."""
    encoder.eval().requires_grad_(False)
    where = next(encoder.parameters()).device
    key = f"{view}-{_digest(encoder.state_dict())}"
    return Transform(lambda image: encoder(image.to(where)).float().cpu(), key, view)


def _digest(values: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(values.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def fisher_encoding(
    checkpoint: EncoderCheckpoint, settings: dict[str, Any], fold: Fold, where: str
) -> Transform:
    """The transform of Fisher vectors, fitted to maps of the fold's training cells.

    Raises:
        HEp2Error: the encoder has no such map.
    """
    encoder: Any = checkpoint.encoder().to(where).eval().requires_grad_(False)
    vectors: FisherVectors = instantiate(settings, _convert_="all")
    if not hasattr(encoder, "maps"):
        raise HEp2Error(f"features.local: the encoder {checkpoint.architecture} has no maps")

    def maps(image: Tensor) -> Tensor:
        found: Tensor = encoder.maps(image.to(where), vectors.level)
        return found.float().cpu()

    images, train = CellImages(fold.cells, view=checkpoint.view), fold.split.train
    seed, share = int(fold.provenance["seed"]), -(-vectors.sample // len(train))
    rng = np.random.default_rng(seed)

    def some(image: Tensor) -> Matrix:
        columns = maps(image).flatten(2).transpose(1, 2).numpy()  # (B, H * W, C)
        places = rng.random(columns.shape[:2]).argsort(axis=1)[:, :share, None]
        return np.take_along_axis(columns, places, axis=1).reshape(-1, columns.shape[2])

    vectors.fit(np.concatenate(list(in_batches(images, train, some))), seed)
    learned = {str(number): part for number, part in enumerate(vectors.fitted())}
    asked = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    masked = fold.cells.masks is not None
    if masked:
        learned["masks"] = torch.from_numpy(np.array(fold.cells.masks))
    key = f"fisher-{asked}-{_digest(encoder.state_dict() | learned)}"

    def function(image: Tensor) -> Tensor:
        return vectors.gradients(maps(image[:, :1]), image[:, 1:] if masked else None)

    return Transform(function, key, checkpoint.view, finish=normalised, masked=masked)


class Extractor(Protocol):
    """Turns images into feature vectors. No label is ever passed to one."""

    version: int  # of the code; raised with any change that moves a value, so that caches notice

    def transform(self, images: Matrix) -> Matrix:
        """Feature vectors: (B, H, W), in [0, 1] -> (B, D)."""
        ...


@runtime_checkable
class Learner(Protocol):
    """What an extractor has besides, if it learns from training images."""

    def fit(self, images: Matrix, seed: int) -> None:
        """Learn from training cells, shape (N, H, W), in [0, 1]."""

    def fitted(self) -> list[NDArray[Any]]:
        """The learned parameters."""
        ...


def fitted_extractor(settings: dict[str, Any], fold: Fold) -> Extractor:
    """The extractor of a configuration, fitted on the fold's training cells alone.

    `settings` are its `_target_` and arguments. Validation cells are held out as test cells are.
    """
    extractor: Extractor = instantiate(settings, _convert_="all")
    if isinstance(extractor, Learner):
        images = CellImages(fold.cells).gather(fold.split.train, epoch=None)
        extractor.fit(images[:, 0].numpy(), int(fold.provenance["seed"]))
    return extractor


def extraction(settings: dict[str, Any], fold: Fold) -> Transform:
    """The transform of `fitted_extractor`."""
    extractor = fitted_extractor(settings, fold)
    learned = extractor.fitted() if isinstance(extractor, Learner) else []
    digest = hashlib.sha256(json.dumps([settings, extractor.version], sort_keys=True).encode())
    taken = getattr(extractor, "masked", False) and fold.cells.masks is not None
    for parameter in [*learned, fold.cells.masks] if taken else learned:
        digest.update(np.ascontiguousarray(parameter).tobytes())

    def function(image: Tensor) -> Tensor:
        return torch.from_numpy(extractor.transform(*image.numpy().swapaxes(0, 1)))

    return Transform(function, digest.hexdigest()[:16], learned=bool(learned), masked=bool(taken))


def features_by(transform: Transform, cells: Cells, cache_dir: Path, orientations: int) -> Matrix:
    """Features of all N cells, means over this many orientations, or those in the cache.

    Shape:
        (N, D)
    """
    images = (MaskedImages if transform.masked else CellImages)(cells, view=transform.view)
    everyone = np.arange(len(cells))

    def features(image: Tensor) -> Tensor:
        mean = transform.function(image)
        for turn in range(1, orientations):
            mean = mean + transform.function(oriented(image, turn))
        mean = mean / orientations
        return transform.finish(mean) if transform.finish else mean

    def fill(out: Matrix) -> None:  # batch by batch, so memory does not grow
        batches, start = in_batches(images, everyone, features), 0
        for made in progress_bar(batches, "features", math.ceil(len(cells) / BATCH)):
            out[start : start + len(made)] = made.numpy()
            start += len(made)

    size = next(in_batches(images, everyone[:1], transform.function)).shape[1]
    key = f"{cells.key}-{transform.key}-{orientations}"
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
