"""Images with the masks that the data set brings, for features that tell a cell from its ground."""

import torch
from torch import Tensor

from hep2.data.cells import Indices
from hep2.data.inputs import CellImages


class MaskedImages(CellImages):
    """Images and, as a second channel, masks of 0 and 1: shape (B, 2, H, W).

    A mask of zeros says that there is none.
    """

    def gather(self, positions: Indices, epoch: int | None) -> Tensor:
        """Two indexed reads of memory maps."""
        image = super().gather(positions, epoch)
        if self.cells.masks is None:
            return torch.cat([image, torch.zeros_like(image)], dim=1)
        masks = torch.from_numpy(self.cells.masks[positions] > 0)
        return torch.cat([image, masks.to(image)], dim=1)
