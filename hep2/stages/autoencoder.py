"""Stage 1: an autoencoder on the fold's training cells."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from hep2.config import device, plain
from hep2.data.augment import Augmentation
from hep2.data.fold import Fold
from hep2.data.inputs import BATCH, CellImages, Positions
from hep2.files import write_atomic
from hep2.rundir.artifacts import cells_csv, latent_map, reconstructions_record, typical_and_worst
from hep2.rundir.directory import RunDir
from hep2.rundir.result import name_metrics
from hep2.stages.tuning import TunableStage
from hep2.tasks.pretraining import pretrain_layers
from hep2.tasks.reconstruction import Reconstruction

log = logging.getLogger(__name__)

NOVEL_PERCENTILE = 99  # of errors on held-out cells; a cell beyond it is unlike the training set


def autoencoder(cfg: DictConfig, fold: Fold, run: RunDir) -> "AutoencoderStage":
    """A fresh autoencoder, fed with augmented images."""

    def new_task(cfg: DictConfig) -> Reconstruction:
        return Reconstruction(
            architecture=cfg.model.architecture,
            network=plain(cfg.model.network),
            loss=cfg.stage.loss,
            optimizer=plain(cfg.stage.optimizer),
            provenance=fold.provenance,
            view=cfg.stage.view,
        )

    return AutoencoderStage(cfg, fold, run, new_task, augmented_images(cfg, fold, cfg.stage.view))


def augmented_images(cfg: DictConfig, fold: Fold, view: str = "intensity") -> CellImages:
    """The fold's images, with the augmentation that the configuration asks for."""
    settings = {key: value for key, value in plain(cfg.augment).items() if key != "name"}
    batched = settings.pop("batched", False)
    if not any(settings.values()):
        return CellImages(fold.cells, view=view)
    augmentation = Augmentation(**settings, seed=cfg.seed, cells=len(fold.cells))
    return CellImages(fold.cells, augmentation, batched, view)


@dataclass
class AutoencoderStage(TunableStage):
    """Scored by how well it reconstructs cells of specimens that it has never seen."""

    inputs: CellImages
    task: Reconstruction = field(init=False)

    def train(self, loggers: list[Logger]) -> int | None:
        """Layers by themselves first, where that is asked for and the run begins."""
        if self.cfg.stage.pretrain_epochs and not self.run.last.is_file():
            pretrain_layers(
                self.task.to(device(self.cfg)),
                self.datamodule,
                self.cfg.stage.pretrain_epochs,
                self.cfg.stage.optimizer.lr,
            )
        return super().train(loggers)

    def held_out_figure(self) -> float:
        """The negative of the mean squared error."""
        errors, _ = errors_and_latents(self.task, self.inputs, self.fold.split.test)
        return -float(errors.mean())

    def score(self) -> dict[str, Any]:
        """Reconstruction errors on the test cells, and whether the latents are worth a head."""
        test = self.fold.split.test
        errors, latents = errors_and_latents(self.task, self.inputs, test)
        guessed = _errors_of_mean_image(self.fold, self.inputs)
        score = score_reconstruction(errors, guessed, latents)
        if score.collapsed:
            log.warning("the autoencoder has collapsed, its latents mean nothing: %s", score)
        return {
            "metrics": name_metrics(self.fold, "test", asdict(score)),
            "collapsed": score.collapsed,
            "labels_in_features": False,
            **self._record(errors, latents),
        }

    def _record(self, errors: NDArray[np.float64], latents: NDArray[np.float32]) -> dict[str, Any]:
        """What the report and predictions on other cells need of this autoencoder."""
        fold, images = self.fold, self.inputs
        validation, _ = errors_and_latents(self.task, images, fold.split.val)
        held_out = np.concatenate([validation, errors])
        places = latent_map(latents, self.cfg.seed)
        write_atomic(self.run.predictions, cells_csv(fold, errors, places))
        chosen = typical_and_worst(errors, fold.cells.labels[fold.split.test])
        shown = fold.split.test[[row for row, _ in chosen]]
        return {
            "novelty": {
                "percentile": NOVEL_PERCENTILE,
                "mse": float(np.percentile(held_out, NOVEL_PERCENTILE)),
                "cells": len(held_out),
            },
            "reconstructions": reconstructions_record(
                fold, errors, chosen, _reconstructed(self.task, images, shown)
            ),
        }


def errors_and_latents(
    task: Reconstruction, images: CellImages, cells: Positions
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Mean squared error, shape (N,), and latent, shape (N, D), of some cells."""
    errors = np.zeros(len(cells))
    latents = np.zeros((len(cells), task.encoder.latent_size), dtype=np.float32)
    task.eval()
    with torch.inference_mode():
        for start in range(0, len(cells), BATCH):
            image = images.gather(cells[start : start + BATCH], epoch=None).to(task.device)
            latent = task.encoder(image)
            error = squared_error(task.decoder(latent), image)
            errors[start : start + BATCH] = error.cpu().numpy()
            latents[start : start + BATCH] = latent.float().cpu().numpy()
    return errors, latents


def _reconstructed(task: Reconstruction, images: CellImages, cells: Positions) -> NDArray[np.uint8]:
    """Reconstructions of a few cells as 8-bit images, shape (N, H, W)."""
    with torch.inference_mode():
        made = task(images.gather(cells, epoch=None).to(task.device))[:, 0]
    return np.asarray((made.float().cpu() * 255).round().to(torch.uint8).numpy())


def _errors_of_mean_image(fold: Fold, inputs: CellImages) -> NDArray[np.float64]:
    """Error of each test cell, shape (N,), where the mean of the training images is the guess."""
    train, test = fold.split.train, fold.split.test
    total = torch.zeros(fold.cells.images.shape[1:], dtype=torch.float64)
    for image in _plain_batches(inputs, train):
        total += image.double().sum(dim=0)
    mean = (total / len(train)).float()  # (1, H, W)
    return torch.cat([squared_error(mean, image) for image in _plain_batches(inputs, test)]).numpy()


def _plain_batches(inputs: CellImages, cells: Positions) -> Iterator[Tensor]:
    """Images of some cells without augmentation, as the autoencoder sees them."""
    for start in range(0, len(cells), BATCH):
        yield inputs.gather(cells[start : start + BATCH], epoch=None)


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
