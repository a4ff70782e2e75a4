"""Latents of a fold: each cell is encoded once, then heads read a matrix."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from hep2.data.inputs import CachedFeatures, CellImages, FeatureTable, Positions
from hep2.features.cache import cached, digest_of_weights, encode
from hep2.fold import Fold


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
