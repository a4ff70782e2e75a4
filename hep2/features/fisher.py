"""Fisher vectors of an encoder's middle maps: how its local features are distributed in a cell."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hep2.errors import check_types

Floats = NDArray[np.float32]
COVARIANCE = 1e-4  # added to the variances of the Gaussians; whitened descriptors have 1
STEPS = 60  # of expectation and maximisation, at most


@dataclass
class FisherVectors:
    """First- and second-order Fisher vectors over two regions of a map.

    Sanchez, Perronnin, Mensink and Verbeek, Image classification with the Fisher vector, IJCV 105
    (2013) 222. The local descriptors are the columns of a map, after PCA with whitening; the two
    regions stand for the inside of a cell and what is about its rim. A mask that the data set
    brings says better what is inside.
    """

    level: int  # of the encoder, from 1: where the map is taken
    components: int  # of the PCA
    gaussians: int  # of the mixture, with diagonal covariances
    core: float  # the first region: within this share of the half side from the middle
    sample: int  # descriptors of training cells that PCA and mixture are fitted to

    def __post_init__(self) -> None:
        """Raise HEp2Error where a size is none."""
        check_types("features.local.", FisherVectors, vars(self), least=1)

    def fit(self, descriptors: Floats, seed: int) -> None:
        """Learn axes and mixture from descriptors of training cells, shape (N, C)."""
        import warnings

        from sklearn.decomposition import PCA
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        axes = PCA(min(self.components, *descriptors.shape), whiten=True, svd_solver="full")
        mixture = GaussianMixture(
            min(self.gaussians, len(descriptors)), covariance_type="diag", reg_covar=COVARIANCE,
            max_iter=STEPS, random_state=seed,
        )  # fmt: skip
        # One thread: sums of several threads come in any order, and the same must come out.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(axes.fit_transform(descriptors))
        self.mean = torch.from_numpy(axes.mean_).double()
        scale = np.sqrt(axes.explained_variance_)
        self.axes = torch.from_numpy(axes.components_.T / scale).double()  # (C, components)
        self.weights = torch.from_numpy(mixture.weights_).double()  # (K,)
        self.centres = torch.from_numpy(mixture.means_).double()  # (K, components)
        self.deviations = torch.from_numpy(mixture.covariances_).double().sqrt()

    def fitted(self) -> list[Tensor]:
        """What was learned."""
        return [self.mean, self.axes, self.weights, self.centres, self.deviations]

    def gradients(self, maps: Tensor, masks: Tensor | None = None) -> Tensor:
        """Their equations 17 and 18, a region after the other; may be averaged over orientations.

        `masks` are 1 inside a cell, of any size, and all 0 where a cell has none.

        Shape:
            (B, C, H, W), (B, 1, H', W') -> (B, 4 * gaussians * components)
        """
        columns = maps.flatten(2).transpose(1, 2).double()  # (B, H * W, C)
        x = (columns - self.mean) @ self.axes
        precision = self.deviations**-2
        squares = x**2 @ precision.T - 2 * x @ (self.centres * precision).T
        squares = squares + (self.centres**2 * precision).sum(dim=1)
        logs = self.weights.log() - self.deviations.log().sum(dim=1) - squares / 2
        shares = logs.softmax(dim=2)  # (B, H * W, K)
        parts = []
        for region in regions(maps, masks, self.core):
            share = shares * region[..., None]
            total = share.sum(dim=1)[..., None]  # (B, K, 1)
            one, two = share.transpose(1, 2) @ x, share.transpose(1, 2) @ x**2
            count = region.sum(dim=1).clamp(min=1)[:, None, None]
            first = (one - total * self.centres) / self.deviations
            second = (two - 2 * self.centres * one + total * self.centres**2) * precision - total
            weights = self.weights[:, None].sqrt() * count
            parts += [(first / weights).flatten(1), (second / weights / 2**0.5).flatten(1)]
        return torch.cat(parts, dim=1).float()


def normalised(gradients: Tensor) -> Tensor:
    """Signed square root, then unit length (their section 2.3).

    Shape:
        (..., D) -> (..., D)
    """
    return F.normalize(gradients.sign() * gradients.abs().sqrt(), dim=-1)


def regions(maps: Tensor, masks: Tensor | None, core: float) -> list[Tensor]:
    """The inside of the cells on their maps, and the rest; each of shape (B, H * W), bool.

    Inside is what a mask covers by half or, without one, what lies within a share `core` of the
    half side from the middle.
    """
    size = (maps.shape[2], maps.shape[3])
    down, across = (((torch.arange(side) + 0.5) * 2 / side - 1).abs() for side in size)
    inside = (
        (torch.maximum(down[:, None], across[None]) <= core).flatten().expand(maps.shape[0], -1)
    )
    if masks is not None:
        covered = F.adaptive_avg_pool2d(masks, size).flatten(1) >= 0.5
        inside = torch.where(masks.flatten(1).any(dim=1, keepdim=True), covered, inside)
    return [inside, ~inside]
