"""Features computed once and kept: a memory map keyed by what made it."""

import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor, nn
from tqdm import tqdm

from hep2.config import device, plain
from hep2.data.augment import turned
from hep2.data.fold import Fold
from hep2.data.inputs import BATCH, CachedFeatures, CellImages, FeatureTable, Positions
from hep2.data.store import map_npy
from hep2.errors import HEp2Error
from hep2.features.encoder import EncoderCheckpoint, own_encoders
from hep2.files import whole_file
from hep2.nets.architectures import ENCODERS, build

BLOCK = 1 << 24  # bytes checked at a time


def digest_of_weights(module: nn.Module) -> str:
    """16 hex digits that change with any parameter or buffer."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


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


Matrix = NDArray[np.float32]


class Extractor(Protocol):
    """Turns images into feature vectors. No label is ever passed to one.

    Attributes:
        version: of the code; raised with any change that moves a value, so that caches notice.
        learns: whether `fit` learns anything from the training images.
    """

    version: int
    learns: bool

    def fit(self, images: Matrix, seed: int) -> None:
        """Learn from training cells, shape (N, H, W), in [0, 1]; nothing if not `learns`."""

    def fitted(self) -> list[NDArray[Any]]:
        """The learned parameters."""
        ...

    def transform(self, images: Matrix) -> Matrix:
        """Feature vectors.

        Shape:
            (B, H, W), in [0, 1] -> (B, D)
        """
        ...


def fitted_extractor(settings: dict[str, Any], fold: Fold) -> Extractor:
    """The extractor of a configuration, fitted on the fold's training cells alone.

    Args:
        settings: `_target_` and arguments.
        fold: validation cells are held out of fitting as test cells are.
    """
    extractor: Extractor = instantiate(settings, _convert_="all")
    if extractor.learns:
        images = CellImages(fold.cells).gather(fold.split.train, epoch=None)
        extractor.fit(images[:, 0].numpy(), int(fold.provenance["seed"]))
    return extractor


def extracted_features(
    settings: dict[str, Any], fold: Fold, orientations: int, cache_dir: Path
) -> tuple[CachedFeatures, bool]:
    """Features of the cells of a fold, or those in the cache; and whether they were learned.

    An extractor that learns nothing is run once on the whole data set, for all folds.

    Args:
        settings: of the extractor.
        fold: whose cells.
        orientations: 1 to 8 of the flips and quarter turns of a square image, for training cells.
        cache_dir: where the matrices are kept.
    """
    extractor = fitted_extractor(settings, fold)
    images = CellImages(fold.cells)
    size = _apply(extractor, images.gather(fold.split.train[:1], epoch=None)).shape[1]
    identity = f"{fold.cells.key}-{_digest(settings, extractor)}"

    def table(cells: Positions, part: str, turns: int) -> FeatureTable:
        make = partial(fill, partial(_apply, extractor), images, cells)
        key = f"{identity}-{part}{turns}"
        return FeatureTable(cells, cached(cache_dir, key, (len(cells), turns, size), make))

    everything = np.arange(len(fold.cells))
    evaluated = np.sort(np.concatenate([fold.split.val, fold.split.test]))
    split = str(fold.provenance["split"])
    evaluation = (
        table(evaluated, f"{split}-evaluation", 1)
        if extractor.learns
        else table(everything, "all", 1)
    )
    training = (
        table(fold.split.train, f"{split}-train", orientations)
        if extractor.learns or orientations > 1
        else evaluation
    )
    seed = int(fold.provenance["seed"])
    return CachedFeatures(training, evaluation, seed), extractor.learns


def _apply(extractor: Extractor, batch: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, D)."""
    return torch.from_numpy(extractor.transform(batch[:, 0].numpy()))


def _digest(settings: dict[str, Any], extractor: Extractor) -> str:
    """16 hex digits that change with the settings, the code's version and what was learned."""
    digest = hashlib.sha256(json.dumps([settings, extractor.version], sort_keys=True).encode())
    for parameter in extractor.fitted():
        digest.update(np.ascontiguousarray(parameter).tobytes())
    return digest.hexdigest()[:16]


def latents_of_fold(
    encoder: nn.Module,
    fold: Fold,
    orientations: int,
    cache_dir: Path,
    seed: int,
    view: str = "intensity",
) -> CachedFeatures:
    """Encode the cells of a fold, or find their latents in the cache.

    Training cells are encoded in several orientations, validation and test cells as they are.

    Args:
        encoder: frozen, on the device that shall do the work; has the attribute `latent_size`.
        fold: whose cells.
        orientations: 1 to 8 of the flips and quarter turns of a square image.
        cache_dir: where the matrices are kept.
        seed: of the draw among orientations in training.
        view: of the cells that the encoder was trained on.
    """
    images = CellImages(fold.cells, view=view)
    latent_size: Any = encoder.latent_size
    weights = digest_of_weights(encoder)
    evaluated = np.sort(np.concatenate([fold.split.val, fold.split.test]))

    def table(cells: Positions, part: str, turns: int) -> FeatureTable:
        key = f"{fold.cells.key}-{fold.provenance['split']}-{view}-{weights}-{part}{turns}"
        shape = (len(cells), turns, latent_size)
        return FeatureTable(
            cells, cached(cache_dir, key, shape, partial(encode, encoder, images, cells))
        )

    return CachedFeatures(
        table(fold.split.train, "train", orientations), table(evaluated, "evaluation", 1), seed
    )


def joined(parts: Sequence[CachedFeatures]) -> CachedFeatures:
    """The features of several extractors for the same cells, side by side."""
    first, *others = parts
    if not others:
        return first
    training, evaluation = (
        FeatureTable(tables[0].cells, np.concatenate([table.matrix for table in tables], axis=2))
        for tables in (
            [part.training for part in parts],
            [part.evaluation for part in parts],
        )
    )
    return CachedFeatures(training, evaluation, first.seed)


@dataclass(frozen=True)
class Features:
    """What a head is fed with.

    Attributes:
        inputs: the feature vectors.
        checkpoints: of the encoders that made them; none of an extractor.
        learned_with_labels: whether labels were read where they were learned; None: not learned.
    """

    inputs: CachedFeatures
    checkpoints: list[EncoderCheckpoint]
    learned_with_labels: bool | None


def features_of(cfg: DictConfig, fold: Fold, orientations: int) -> Features:
    """Compute the features of the fold's cells, or find them in the cache.

    Args:
        cfg: the run's configuration.
        fold: whose cells.
        orientations: of the training cells.

    Raises:
        HEp2Error: an encoder is missing, or belongs to another fold.
    """
    cache_dir = Path(cfg.cache_dir)
    checkpoints = own_encoders(cfg, fold)
    if not checkpoints:
        settings = plain(cfg.features.extractor)
        inputs, learned = extracted_features(settings, fold, orientations, cache_dir)
        return Features(inputs, [], False if learned else None)
    parts = []
    for checkpoint in checkpoints:
        encoder = build(ENCODERS, checkpoint.architecture, **checkpoint.network)
        checkpoint.load_into(encoder)
        encoder.eval().requires_grad_(False).to(device(cfg))
        parts.append(
            latents_of_fold(encoder, fold, orientations, cache_dir, cfg.seed, checkpoint.view)
        )
    with_labels = any(checkpoint.learned_with_labels for checkpoint in checkpoints)
    return Features(joined(parts), checkpoints, with_labels)
