"""Floors: the pixels themselves, and their principal components."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hep2.errors import check_types

Matrix = NDArray[np.float32]


class Pixels:
    """Every pixel is a feature: (B, H, W) -> (B, H * W)."""

    version = 1

    def transform(self, images: Matrix) -> Matrix:
        """The pixels in a row."""
        return images.reshape(len(images), -1)


@dataclass(eq=False)
class PrincipalComponents:
    """Coordinates along the principal axes of the training cells' pixels.

    Shape:
        (B, H, W) -> (B, components), or as many as there were training cells, where they are fewer
    """

    version = 1

    components: int

    def __post_init__(self) -> None:
        """Raise HEp2Error where it is no number of axes."""
        check_types("features.extractor.", PrincipalComponents, vars(self), least=1)

    def fit(self, images: Matrix, seed: int) -> None:
        """Find the axes."""
        from sklearn.decomposition import PCA

        pixels = images.reshape(len(images), -1)
        count = min(self.components, *pixels.shape)
        self.pca = PCA(count, svd_solver="randomized", random_state=seed).fit(pixels)

    def fitted(self) -> list[NDArray[Any]]:
        """Mean and axes."""
        return [self.pca.mean_, self.pca.components_]

    def transform(self, images: Matrix) -> Matrix:
        """Project."""
        projected = self.pca.transform(images.reshape(len(images), -1))
        return np.asarray(projected, dtype=np.float32)
