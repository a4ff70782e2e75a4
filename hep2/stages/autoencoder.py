"""Stage 1: an autoencoder on the fold's training cells."""

import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from hep2.data.augment import Augmentation
from hep2.data.inputs import CellImages
from hep2.fold import Fold
from hep2.results import metrics
from hep2.rundir import RunDir
from hep2.scoring import score_reconstruction
from hep2.stages.network import NetworkStage, plain
from hep2.tasks.reconstruction import Reconstruction

log = logging.getLogger(__name__)


def autoencoder(cfg: DictConfig, fold: Fold, run: RunDir) -> "AutoencoderStage":
    """A fresh autoencoder, fed with augmented images."""
    task = Reconstruction(
        architecture=cfg.model.architecture,
        network=plain(cfg.model.network),
        loss=cfg.stage.loss,
        optimizer=plain(cfg.stage.optimizer),
        provenance=fold.provenance,
    )
    return AutoencoderStage(cfg, fold, run, task, augmented_images(cfg, fold))


def augmented_images(cfg: DictConfig, fold: Fold) -> CellImages:
    """The fold's images, with the augmentation that the configuration asks for."""
    settings = {key: value for key, value in plain(cfg.augment).items() if key != "name"}
    if not any(settings.values()):
        return CellImages(fold.cells)
    return CellImages(fold.cells, Augmentation(**settings, seed=cfg.seed))


@dataclass
class AutoencoderStage(NetworkStage):
    """Scored by how well it reconstructs cells of specimens that it has never seen."""

    task: Reconstruction

    def score(self) -> dict[str, Any]:
        """Reconstruction errors on the test cells, and whether the latents are worth a head."""
        loader = self.datamodule.test_dataloader()
        score = score_reconstruction(self.task, loader, _mean_image(self.fold))
        if score.collapsed:
            log.warning("the autoencoder has collapsed, its latents mean nothing: %s", score)
        return {
            "metrics": metrics(self.fold, "test", asdict(score)),
            "collapsed": score.collapsed,
        }


def _mean_image(fold: Fold) -> Tensor:
    """The mean training image, shape (1, H, W), in [0, 1]."""
    total = np.zeros(fold.cells.images.shape[1:])
    for cell in fold.split.train:
        total += fold.cells.images[cell]
    return torch.from_numpy(total / (len(fold.split.train) * fold.cells.full_scale)).float()
