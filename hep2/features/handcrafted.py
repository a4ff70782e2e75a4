"""Handcrafted descriptors: scikit-image does the work, this joins them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.feature import graycomatrix, graycoprops, hog, local_binary_pattern

from hep2.errors import HEp2Error, check_types

Vector = NDArray[np.float64]

LEVELS = 32  # grey levels of the co-occurrences
ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
HARALICK = ("contrast", "dissimilarity", "homogeneity", "ASM", "energy", "correlation", "entropy")


@dataclass(eq=False)
class Handcrafted:
    """Texture (LBP, GLCM, spectrum), intensity (histogram, moments) and shape (HOG) in one vector.

    Shape:
        (B, H, W), in [0, 1] -> (B, D)
    """

    version = 1

    radii: Sequence[int]  # of the uniform local binary patterns, in pixels
    distances: Sequence[int]  # of the grey-level co-occurrences, in pixels
    bins: int  # of the intensity histogram
    rings: int  # of the radial power spectrum

    def __post_init__(self) -> None:
        """Raise HEp2Error where a size is none."""
        check_types("features.extractor.", Handcrafted, vars(self), least=1)
        if not self.radii or not self.distances:
            raise HEp2Error("features.extractor: radii and distances need one or more numbers")

    def transform(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Describe each image by itself."""
        return np.stack([self._describe(image) for image in images]).astype(np.float32)

    def _describe(self, image: NDArray[np.float32]) -> Vector:
        grey = np.round(image * 255).astype(np.uint8)
        parts = [binary_patterns(grey, radius) for radius in self.radii]
        parts += [cooccurrences(grey, self.distances), intensities(image, self.bins)]
        return np.concatenate([*parts, radial_spectrum(image, self.rings), gradients(image)])


def binary_patterns(grey: NDArray[np.uint8], radius: int) -> Vector:
    """Shares of the uniform, rotation-invariant local binary patterns (Ojala et al. 2002).

    8 neighbours at radius 1, 16 at 2, 24 from 3 on, as in that paper.

    Shape:
        (H, W) -> (neighbours + 2,)
    """
    neighbours = min(8 * radius, 24)
    codes = local_binary_pattern(grey, neighbours, radius, method="uniform").astype(np.int64)
    return np.asarray(np.bincount(codes.ravel(), minlength=neighbours + 2) / codes.size)


def cooccurrences(grey: NDArray[np.uint8], distances: Sequence[int]) -> Vector:
    """Haralick's statistics (1973) of 32 grey levels: mean and range over four directions.

    Shape:
        (H, W) -> (len(distances) * 7 * 2,)
    """
    coarse = (grey // (256 // LEVELS)).astype(np.uint8)
    matrix = graycomatrix(coarse, distances, ANGLES, LEVELS, symmetric=True, normed=True)
    values = np.stack([graycoprops(matrix, name) for name in HARALICK])  # (7, distances, angles)
    return np.concatenate([values.mean(axis=2).ravel(), np.ptp(values, axis=2).ravel()])


def intensities(image: NDArray[np.float32], bins: int) -> Vector:
    """Histogram, percentiles, and the four first moments.

    Shape:
        (H, W), in [0, 1] -> (bins + 9,)
    """
    histogram = np.histogram(image, bins, range=(0, 1))[0] / image.size
    percentiles = np.percentile(image, [5, 25, 50, 75, 95])
    mean, deviation = image.mean(dtype=np.float64), image.std(dtype=np.float64)
    standard = (image - mean) / (deviation + 1e-6)
    moments = [mean, deviation, (standard**3).mean(), (standard**4).mean()]
    return np.concatenate([histogram, percentiles, moments])


def radial_spectrum(image: NDArray[np.float32], rings: int) -> Vector:
    """Logarithm of the mean power in rings of equal width, from the lowest frequency to Nyquist's.

    A Hann window keeps the image's edges out of it; the mean is taken off before.

    Shape:
        (H, W) -> (rings,)
    """
    height, width = image.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    ring = np.minimum((frequency * 2 * rings).astype(np.int64), rings)  # the corners: one too many
    total = np.bincount(ring.ravel(), power.ravel(), rings + 1)
    count = np.bincount(ring.ravel(), minlength=rings + 1)
    return np.log(total / np.maximum(count, 1) + 1e-6)[:rings]


def gradients(image: NDArray[np.float32]) -> Vector:
    """Histograms of oriented gradients (Dalal and Triggs 2005) on a grid of 4 x 4 cells.

    Shape:
        (H, W) -> (3 * 3 * 2 * 2 * 8,)
    """
    height, width = image.shape
    blocks: Vector = hog(
        image, orientations=8, pixels_per_cell=(height // 4, width // 4), cells_per_block=(2, 2)
    )
    return blocks
