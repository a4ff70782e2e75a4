"""The test: read once, at the end, on one process, every cell once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hep2.tasks.classification import Classification


def probabilities(task: Classification, loader: Iterable[Any]) -> NDArray[np.float64]:
    """Class probabilities of every cell that a loader gives, in its order.

    Shape:
        (N, classes), rows sum to 1
    """
    parts = [task.logits(batch).double().softmax(dim=1) for batch in _batches(task, loader)]
    return np.asarray(torch.cat(parts).cpu().numpy())


@dataclass(frozen=True)
class ReconstructionScore:
    """How well an autoencoder reconstructs cells that it has never seen.

    Attributes:
        mse: mean squared error over pixels and cells, intensities in [0, 1].
        mse_of_mean_image: the same for a constant guess, the mean training image. An autoencoder
            that is no better has learned nothing.
        dead_latents: the share of latent values that are the same for all cells.
    """

    mse: float
    mse_of_mean_image: float
    dead_latents: float

    @property
    def collapsed(self) -> bool:
        """Whether the latents are not worth a head."""
        return self.mse >= self.mse_of_mean_image or self.dead_latents > 0.99


def score_reconstruction(
    errors: NDArray[np.float64], guessed: NDArray[np.float64], latents: NDArray[np.float32]
) -> ReconstructionScore:
    """Score an autoencoder on N cells.

    Args:
        errors: mean squared error of each cell's reconstruction, shape (N,).
        guessed: the same for the constant guess, the mean of the training images, shape (N,).
        latents: shape (N, D).
    """
    dead = latents.min(axis=0) == latents.max(axis=0)
    return ReconstructionScore(float(errors.mean()), float(guessed.mean()), float(dead.mean()))


def squared_error(guess: Tensor, image: Tensor) -> Tensor:
    """Mean squared error of each image, shape (B,)."""
    return (guess - image).double().square().mean(dim=(1, 2, 3))


def _batches(module: L.LightningModule, loader: Iterable[Any]) -> Iterator[dict[str, Tensor]]:
    """Batches on the module's device, the module in evaluation, without gradients."""
    module.eval()
    with torch.inference_mode():
        for batch in loader:
            yield {key: value.to(module.device) for key, value in batch.items()}
