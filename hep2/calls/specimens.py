"""One call a specimen, from the probabilities of its cells: by mean, vote, or a learned rule."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np

from hep2.metrics import FloatArray, IntArray, StringArray, group_counts, group_means

LEVEL = 1.959964  # the normal quantile of a 95 % interval
RULES = ("mean", "vote", "learned")


@dataclass(frozen=True)
class Specimens:
    """What the cells of S specimens say together, in the order of their names."""

    names: StringArray  # (S,)
    cells: IntArray  # their number, (S,)
    means: FloatArray  # of the cells' probabilities, (S, C)
    spreads: FloatArray  # their standard deviations, (S, C)
    shares: FloatArray  # of the cells whose most probable pattern it is, (S, C)

    @classmethod
    def of(cls, specimens: StringArray, probabilities: FloatArray) -> Self:
        """Names of specimens (N,) and probabilities (N, C) of cells."""
        names, owner, cells = np.unique(specimens, return_inverse=True, return_counts=True)
        votes = np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)]
        mean = partial(group_means, owner, cells)
        means = mean(probabilities)
        spreads = np.sqrt(mean((probabilities - means[owner]) ** 2))
        return cls(names, cells, means, spreads, mean(votes))

    def by_mean(self) -> IntArray:
        """The pattern of the greatest mean probability, (S,)."""
        return np.asarray(self.means.argmax(axis=1))

    def by_vote(self) -> IntArray:
        """The pattern of most cells, (S,); of equal ones that of the greater mean probability."""
        most = self.shares.max(axis=1, keepdims=True)
        return np.asarray(np.where(self.shares > most - 1e-9, self.means, -1.0).argmax(axis=1))

    def described(self) -> FloatArray:
        """What the learned rule sees: means, spreads and shares, (S, 3 C)."""
        return np.hstack([self.means, self.spreads, self.shares])


def patterns_of(specimens: StringArray, labels: IntArray, classes: int) -> IntArray:
    """The commonest pattern of each specimen, in the order of their names; ties: the first."""
    names, owner = np.unique(specimens, return_inverse=True)
    return np.asarray(group_counts(owner, labels, (len(names), classes)).argmax(axis=1))


class LearnedRule:
    """Logistic regression on how a specimen's cells are spread, learned from other specimens.

    Those must be specimens whose cells were held out: of cells that were learned from the
    probabilities are better than those of new ones.
    """

    def __init__(self, known: Specimens, patterns: IntArray) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.only = int(patterns[0]) if len(np.unique(patterns)) == 1 else None
        self.model: Any = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        if self.only is None:
            self.model.fit(known.described(), patterns)

    def __call__(self, specimens: Specimens) -> IntArray:
        """The pattern of each, (S,)."""
        if self.only is not None:
            return np.full(len(specimens.names), self.only)
        return np.asarray(self.model.predict(specimens.described()))


def wilson(shares: FloatArray, counts: FloatArray | float) -> tuple[FloatArray, FloatArray]:
    """The ends of the 95 % interval of shares of independent cells, or specimens.

    Wilson's score interval (JASA 22 (1927) 209-212): it stays within 0 and 1, and says something of
    few cells too. `counts` are those that the shares are of.
    """
    square = LEVEL**2 / np.asarray(counts)
    middle = (shares + square / 2) / (1 + square)
    reach = np.sqrt(square * (shares * (1 - shares) + square / 4)) / (1 + square)
    return np.clip(middle - reach, 0, 1), np.clip(middle + reach, 0, 1)
