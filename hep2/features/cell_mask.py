"""Where in its image a cell is, found by a threshold; and its inside and its rim."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import gaussian, threshold_otsu

Mask = NDArray[np.bool_]

SMOOTHING = 1 / 16  # of the side: speckles and nucleoli must not fall apart into objects
PLAUSIBLE = (0.05, 0.95)  # share of the image that a cell may fill


def cell_mask(image: NDArray[np.float32]) -> Mask:
    """The largest object above Otsu's threshold of the smoothed image, its holes filled.

    Where that is no plausible cell, the whole image is taken for one.

    Shape:
        (H, W) -> (H, W)
    """
    smooth = gaussian(image, sigma=SMOOTHING * image.shape[0])
    if np.ptp(smooth) == 0:
        return np.ones(image.shape, dtype=np.bool_)
    objects, count = ndimage.label(smooth > threshold_otsu(smooth))
    sizes = np.bincount(objects.ravel())[1:]
    mask = ndimage.binary_fill_holes(objects == 1 + int(sizes.argmax())) if count else objects > 0
    low, high = PLAUSIBLE
    if not low <= mask.mean() <= high:
        return np.ones(image.shape, dtype=np.bool_)
    return np.asarray(mask, dtype=np.bool_)


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
