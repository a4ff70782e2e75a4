"""The augmentation of `hep2.data.augment` for a whole batch at once, on any device."""

import torch
from torch import Tensor
from torch.nn import functional as F

# Where a symmetry of the square, in the order of `hep2.data.augment.SQUARE`, takes the value at
# (x, y) from, when both run from -1 to 1 over the image: SYMMETRIES[k] @ (x, y).
SYMMETRIES = torch.tensor(
    [
        [[1, 0], [0, 1]],  # e
        [[0, -1], [1, 0]],  # r90
        [[-1, 0], [0, -1]],  # r180
        [[0, 1], [-1, 0]],  # r270
        [[1, 0], [0, -1]],  # v
        [[0, -1], [-1, 0]],  # hvt
        [[-1, 0], [0, 1]],  # h
        [[0, 1], [1, 0]],  # t
    ],
    dtype=torch.float32,
)


def augment_batch(images: Tensor, draws: Tensor) -> Tensor:
    """Do to every image what was drawn for it, without a word to the host.

    One interpolation in float32, where the other way goes by 8 or 16 bits: results agree to
    rounding and to the interpolation's own precision, see tests/test_augment.py.

    Args:
        images: in [0, 1], shape (B, 1, H, H).
        draws: symmetry, angle, gain and shift as `hep2.data.augment.Draws` has them, shape (B, 4).

    Returns:
        Images in [0, 1], shape (B, 1, H, H).
    """
    symmetry, angle, gain, shift = draws.unbind(dim=1)
    cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
    back = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)  # where a pixel comes from
    turned = SYMMETRIES.to(images.device)[symmetry.long()] @ back
    grid = F.affine_grid(F.pad(turned, (0, 1)), list(images.shape), align_corners=True)
    moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=True)
    return (moved * gain.view(-1, 1, 1, 1) + shift.view(-1, 1, 1, 1)).clamp(0, 1)
