"""Augmentation that suits cells: a cell has no up, no left and no fixed brightness."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look on the network at import
import albumentations as A
import cv2


class Augmentation:
    """Random flips, quarter turns, rotation and mild changes of intensity.

    The draw is a function of (seed, epoch, cell) alone: worker processes, their number and the
    order of cells change nothing, and a resumed run sees what an undisturbed one sees.
    (albumentations itself repeats one stream in every worker.)

    Args:
        flips: whether to draw one of the eight flips and quarter turns of a square.
        rotate: largest free rotation in degrees; what enters from outside is the reflection.
        brightness: largest shift of intensity, as a share of the full scale.
        contrast: largest relative change of contrast.
        seed: the run's seed.
    """

    def __init__(
        self, flips: bool, rotate: float, brightness: float, contrast: float, seed: int
    ) -> None:
        transforms: list[Any] = []
        if flips:
            transforms.append(A.D4(p=1))
        if rotate:
            transforms.append(A.Rotate(limit=rotate, border_mode=cv2.BORDER_REFLECT_101, p=1))
        if brightness or contrast:
            transforms.append(
                A.RandomBrightnessContrast(
                    brightness_limit=brightness, contrast_limit=contrast, p=1
                )
            )
        self.transform = A.Compose(transforms)
        self.seed = seed

    def __call__(self, image: NDArray[np.generic], epoch: int, cell: int) -> NDArray[np.generic]:
        """Augment one image.

        Args:
            image: shape (H, W), uint8 or uint16.
            epoch: counted from 0.
            cell: position of the cell in the data set.

        Returns:
            An image of the same shape and type.
        """
        draw = np.random.SeedSequence((self.seed, epoch, cell)).generate_state(1)
        self.transform.set_random_seed(int(draw[0]))
        augmented: NDArray[np.generic] = self.transform(image=image)["image"]
        return augmented
