"""What a network is fed with: images of cells, or features that were computed before."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hep2.data.augment import Augmentation
from hep2.data.cells import Cells, Indices
from hep2.data.views import in_unit_range, view_of

BATCH = 256  # cells a pass; a network without gradients needs little memory

T = TypeVar("T")


class Inputs(Protocol):
    """Gathers batches by the positions of cells in the data set."""

    key: str  # the name of the tensor in a batch

    def gather(self, positions: Indices, epoch: int | None) -> Tensor:
        """Float32, one row a cell; the epoch of training decides augmentation, None means none."""
        ...


class CellImages:
    """Images as float32 in [0, 1], shape (B, 1, H, W).

    Args:
        cells: the data set.
        augmentation: applied in training, or None.
        batched: leave the augmentation to the device; `draws` says what it has to do.
        view: of the cells, a name in `VIEWS`; HEp2Error where it is unknown.
        raw: whether training gets intensities, whatever the view: its task perturbs them first.
    """

    key = "image"

    def __init__(
        self,
        cells: Cells,
        augmentation: Augmentation | None = None,
        batched: bool = False,
        view: str = "intensity",
        raw: bool = False,
    ) -> None:
        self.cells, self.augmentation, self.view = cells, augmentation, view_of(view)
        self.batched = batched and augmentation is not None
        self.training_view = view_of("intensity") if raw else self.view

    def gather(self, positions: Indices, epoch: int | None) -> Tensor:
        """One indexed read of the memory map; per-cell work only under augmentation."""
        images: NDArray[Any] = self.cells.images[positions]
        if self.augmentation and epoch is not None and not self.batched:
            images = self.augmentation(images[:, 0], epoch, positions)[:, None]
        image = torch.from_numpy(in_unit_range(images))
        if epoch is None:
            return self.view(image)
        # Where the device augments, it makes the view of what it has augmented.
        return image if self.batched else self.training_view(image)

    def draws(self, positions: Indices, epoch: int | None) -> dict[str, Tensor]:
        """What `augment_batch` shall do to a batch: {"draws": (B, 7)}, or nothing."""
        if not self.augmentation or not self.batched or epoch is None:
            return {}
        drawn = np.stack(self.augmentation.draw(epoch, positions), axis=1)
        return {"draws": torch.from_numpy(drawn.astype(np.float32))}


class MaskedImages(CellImages):
    """Images and, as a second channel, the data set's masks of 0 and 1: shape (B, 2, H, W).

    They tell a cell from its ground; a mask of zeros says that a cell has none. Features that take
    them are of data sets that bring some.
    """

    def gather(self, positions: Indices, epoch: int | None) -> Tensor:
        """Two indexed reads of memory maps."""
        image = super().gather(positions, epoch)
        assert self.cells.masks is not None, "the data set brings no masks"
        masks = torch.from_numpy(self.cells.masks[positions] > 0)
        return torch.cat([image, masks.to(image)], dim=1)


@dataclass(frozen=True)
class CachedFeatures:
    """Features of a frozen extractor: the same in training and test, so no epoch changes them."""

    matrix: NDArray[np.float32]  # of all cells of the data set, shape (N, D)
    key = "features"

    @property
    def size(self) -> int:
        """Length of a feature vector, D."""
        return int(self.matrix.shape[1])

    def of(self, positions: Indices) -> NDArray[np.float32]:
        """Features of some cells, shape (len(positions), D)."""
        return np.asarray(self.matrix).take(positions, axis=0)

    def gather(self, positions: Indices, epoch: int | None) -> Tensor:
        """One indexed read of the matrix, shape (B, D)."""
        return torch.from_numpy(self.of(positions))


def in_batches(images: CellImages, cells: Indices, function: Callable[[Tensor], T]) -> Iterator[T]:
    """What a function makes of cells as they are, batch by batch, without gradients.

    It takes images, shape (B, 1, H, W), on the CPU; put its module into `eval` before.
    """
    for start in range(0, len(cells), BATCH):
        with torch.inference_mode():
            made = function(images.gather(cells[start : start + BATCH], epoch=None))
        yield made
