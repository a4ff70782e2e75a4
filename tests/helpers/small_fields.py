"""Small fields with label images, and the cells that are in them."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SHAPE = (60, 90)
# Label: top, left, bottom, right. The second is cut off by the border, the last too small.
BOXES = {
    3: (10, 10, 25, 24),
    7: (0, 40, 14, 54),
    200: (30, 30, 44, 46),
    201: (35, 65, 50, 79),
    210: (3, 3, 6, 6),
}
WHOLE = (3, 200, 201)


def field_of(seed: int, dtype: type = np.uint8) -> NDArray[np.unsignedinteger]:
    """Noise, brighter in the cells, each of another brightness."""
    pixels = np.random.default_rng(seed).integers(0, 40, SHAPE)
    for number, (top, left, bottom, right) in enumerate(BOXES.values(), 1):
        pixels[top:bottom, left:right] += 40 * number
    return pixels.astype(dtype)


def labels_of(dtype: type = np.uint16) -> NDArray[np.unsignedinteger]:
    labels = np.zeros(SHAPE, dtype)
    for label, (top, left, bottom, right) in BOXES.items():
        labels[top:bottom, left:right] = label
    return labels


def write_fields(root: Path, *names: str, mask: str = "masks/{}_cp_masks.png") -> tuple[Path, Path]:
    """Fields of these names, with their masks; the two folders."""
    for seed, name in enumerate(names):
        field, labels = root / "fields" / f"{name}.png", root / mask.format(name)
        for file, pixels in ((field, field_of(seed)), (labels, labels_of())):
            file.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(file), pixels)
    return root / "fields", root / "masks"
