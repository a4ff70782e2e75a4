"""Which cells are unlike those that were learned from: those that an autoencoder cannot rebuild."""

from typing import Any

import numpy as np

from hep2.metrics import FloatArray, StringArray

PERCENTILE = 99  # of errors on cells that were not learned from
LIMIT = 1.0  # of the novelty, an error over that percentile


def is_unlike(novelty: FloatArray | float) -> Any:
    """Whether cells are unlike those of the training, by their novelty; NaN is no, nobody knows."""
    return np.greater(novelty, LIMIT)


def unlike_of(novelties: FloatArray) -> Any:
    """The same of some cells, (N,); None where there are some, and the novelty of none is known."""
    return None if len(novelties) and np.isnan(novelties).all() else is_unlike(novelties)


def novelty(errors: FloatArray, specimens: StringArray) -> FloatArray:
    """The error of each test cell over the percentile of the cells of all other specimens.

    A specimen does not help to set its own limit: else one that is strange as a whole would pass.

    Args:
        errors: of reconstructions, of cells that the autoencoder has not learned from, shape (N,).
        specimens: the specimen of each, shape (N,).

    Returns:
        Shape (N,); NaN where there is no other specimen, or all is rebuilt without an error.
    """
    found = np.full(len(errors), np.nan)
    for name in np.unique(specimens):
        own = specimens == name
        if not own.all() and (limit := np.percentile(errors[~own], PERCENTILE)) > 0:
            found[own] = errors[own] / limit
    return found
