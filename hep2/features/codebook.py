"""The dual-region codebook descriptor of Wiliem et al. (WACV 2013, the paper's [3])."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage
from scipy.fft import dctn
from skimage.filters import gaussian, threshold_otsu

from hep2.data.opencv import cv2
from hep2.errors import HEp2Error, check_types

Mask = NDArray[np.bool_]
Images = NDArray[np.float32]
Words = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

SMOOTHING = 1 / 16  # of the side: speckles and nucleoli must not fall apart into objects
PLAUSIBLE = (0.05, 0.95)  # share of the image that a cell may fill
FLAT = 1e-3  # standard deviation below which a patch has no texture, intensities in [0, 1]
RIDGE = 1e-3  # added to the variances of the Gaussians; descriptors have a variance near 1


def cell_mask(image: NDArray[np.float32]) -> Mask:
    """The largest object above Otsu's threshold of the smoothed image, its holes filled.

    Where that is not a plausible cell, the whole image is taken for one.

    Shape:
        (H, W) -> (H, W)
    """
    smooth = gaussian(image, sigma=SMOOTHING * image.shape[0])
    objects, count = ndimage.label(smooth > threshold_otsu(smooth))
    if count:
        largest = 1 + int(np.bincount(objects.ravel())[1:].argmax())
        mask = np.asarray(ndimage.binary_fill_holes(objects == largest), dtype=np.bool_)
        if PLAUSIBLE[0] <= mask.mean() <= PLAUSIBLE[1]:
            return mask
    return np.ones(image.shape, dtype=np.bool_)


def two_regions(mask: Mask, width: float) -> tuple[Mask, Mask]:
    """The inside of a cell, and the rim: what lies within `width` pixels of its outline.

    The image's border bounds a cell as well. Half of the rim lies outside the mask, where the
    threshold may have cut.

    Shape:
        (H, W) -> two of (H, W), disjoint
    """
    inward = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    outward = ndimage.distance_transform_edt(~mask) if mask.any() else np.zeros(mask.shape)
    inside = inward > width / 2
    rim = ~inside & (outward <= (width / 2 if not mask.all() else 0))
    return inside, rim


@dataclass(eq=False)
class Codebook:
    """Histograms of visual words inside the cell and on its rim.

    Known of the original: dense patches, DCT or SIFT descriptors, a codebook of k-means or of
    Gaussians with soft assignment, and pooling over two regions. Ours: all sizes, standardised
    patches, and the cell's mask, which a threshold finds where the data set brings none.

    With "gmm" the words are Gaussians and a patch counts by its posterior; with "kmeans" it counts
    by exp(-beta d^2), beta from the words' mean squared error.

    Shape:
        (B, H, W), in [0, 1] -> (B, 2 * words); each half sums to 1, or to 0 for an empty region

    Raises:
        HEp2Error: unknown descriptor or codebook, or a size that is none.
    """

    version = 1
    masked = True  # takes the masks that a data set brings

    descriptor: str  # "dct" (the lowest frequencies of a patch, without the DC term) or "sift"
    codebook: str  # "gmm" or "kmeans"
    words: int  # size of the codebook
    patch: int  # side, in pixels
    stride: int  # between patches, in pixels
    coefficients: int  # of the DCT
    rim: float  # width, as a share of the image's side
    sample: int  # how many training patches the codebook is learned from

    def __post_init__(self) -> None:
        check_types("features.extractor.", Codebook, vars(self), least=1)
        if self.descriptor not in ("dct", "sift") or self.codebook not in ("gmm", "kmeans"):
            raise HEp2Error(
                f"descriptor={self.descriptor}, codebook={self.codebook} is unknown: choose dct or "
                "sift, and gmm or kmeans"
            )

    def fit(self, images: Images, seed: int) -> None:
        """Learn the words from patches of training cells."""
        rng = np.random.default_rng(seed)
        share = -(-self.sample // len(images))  # patches an image
        parts = []
        for image in images[rng.permutation(len(images))[: self.sample]]:
            every = self._descriptors(image)
            parts.append(every[rng.permutation(len(every))[:share]])
        patches = np.concatenate(parts)
        self.scale = patches.std(axis=0) + 1e-6
        learn = _gaussians if self.codebook == "gmm" else _centres
        count = min(self.words, len(patches) // 2)
        self.centres, self.precisions, self.offsets = learn(patches / self.scale, count, seed)

    def fitted(self) -> list[NDArray[Any]]:
        """Scale of the descriptors; the words' centres, precisions and offsets."""
        return [self.scale, self.centres, self.precisions, self.offsets]

    def transform(self, images: Images, masks: Images | None = None) -> Images:
        """Pool the words of each image by region.

        Masks are of shape (B, H, W), above 0 in the cell; the threshold finds what is empty.
        """
        given = np.zeros(images.shape, np.bool_) if masks is None else masks > 0
        pooled = [self._pooled(image, mask) for image, mask in zip(images, given, strict=True)]
        return np.stack(pooled).astype(np.float32)

    def _pooled(self, image: Images, mask: Mask) -> NDArray[np.float64]:
        shares = self._assigned(self._descriptors(image) / self.scale)  # (patches, words)
        middle = self.patch // 2
        histograms = []
        whole = mask if mask.any() else cell_mask(image)
        for region in two_regions(whole, self.rim * image.shape[0]):
            steps = slice(middle, region.shape[0] - self.patch + middle + 1, self.stride)
            across = slice(middle, region.shape[1] - self.patch + middle + 1, self.stride)
            chosen = shares[region[steps, across].ravel()]
            histograms.append(chosen.sum(axis=0) / max(len(chosen), 1))
        return np.concatenate(histograms)

    def _assigned(self, patches: Images) -> NDArray[np.float64]:
        """Soft assignment: the softmax of each word's log density, shape (patches, words)."""
        centres, precisions = self.centres, self.precisions
        squares = patches**2 @ precisions.T - 2 * patches @ (centres * precisions).T
        logs = self.offsets - (squares + (centres**2 * precisions).sum(axis=1)) / 2
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def _descriptors(self, image: Images) -> Images:
        """Descriptors of all patches, row by row, shape (patches, D)."""
        if self.descriptor == "sift":
            return self._sift(image)
        windows = sliding_window_view(image, (self.patch, self.patch))
        return dct_descriptors(windows[:: self.stride, :: self.stride], self.coefficients)

    def _sift(self, image: Images) -> Images:
        """OpenCV's SIFT at the middles of the patches, upright, shape (patches, 128)."""
        grey = np.round(image * 255).astype(np.uint8)
        middle = (self.patch - 1) / 2
        rows, columns = (range(0, side - self.patch + 1, self.stride) for side in image.shape)
        points = [
            cv2.KeyPoint(x + middle, y + middle, self.patch, 0.0) for y in rows for x in columns
        ]
        _, found = cv2.SIFT_create().compute(grey, points)  # type: ignore[attr-defined]
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(found / np.maximum(norms, 1e-6), dtype=np.float32)


def dct_descriptors(windows: Images, coefficients: int) -> Images:
    """Lowest frequencies of standardised patches, in zigzag order, without the DC term.

    Shape:
        (rows, columns, P, P) -> (rows * columns, coefficients)
    """
    patches = windows.reshape(-1, *windows.shape[-2:])
    spread = patches.std(axis=(1, 2), keepdims=True)
    standard = (patches - patches.mean(axis=(1, 2), keepdims=True)) / np.maximum(spread, FLAT)
    frequencies = dctn(standard, axes=(1, 2), norm="ortho").reshape(len(patches), -1)
    side = windows.shape[-1]
    row, column = np.divmod(np.arange(side**2), side)
    zigzag = np.lexsort((row, row + column))[1 : 1 + coefficients]
    return np.asarray(frequencies[:, zigzag], dtype=np.float32)


def _gaussians(patches: Images, words: int, seed: int) -> Words:
    """Centres, precisions (1 / variance) and log weights of a mixture of Gaussians."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits  # it finds the libraries that are loaded by then

    mixture = GaussianMixture(
        words, covariance_type="diag", reg_covar=RIDGE, max_iter=30, random_state=seed
    )
    # One thread: sums of several threads come in any order, and the same words must come out.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 30 steps are enough for words
        mixture.fit(patches)
    precisions = mixture.precisions_
    logs = np.log(mixture.weights_) + np.log(precisions).sum(axis=1) / 2
    return mixture.means_, precisions, logs


def _centres(patches: Images, words: int, seed: int) -> Words:
    """Centres of k-means; one precision for all, so that soft assignment is exp(-beta d^2)."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        found = KMeans(words, n_init=1, max_iter=50, random_state=seed).fit(patches)
    centres = found.cluster_centers_.astype(np.float64)
    variance = max(found.inertia_ / patches.size, RIDGE)  # mean squared error of one coordinate
    return centres, np.full(centres.shape, 1 / variance), np.zeros(len(centres))
