"""Features that no network of ours makes: fitted on training cells, computed once and kept."""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from torch import Tensor

from hep2.data.inputs import CachedFeatures, CellImages, FeatureTable, Positions
from hep2.features.cache import cached, fill
from hep2.fold import Fold

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
