"""Stage 1: an autoencoder on the fold's training cells."""

import inspect
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from hep2.calls.unlike import PERCENTILE
from hep2.config import arguments, device, plain
from hep2.data.augment import Augmentation
from hep2.data.cells import Indices, spread
from hep2.data.fold import Fold
from hep2.data.inputs import CellImages, in_batches
from hep2.data.protocols import Split
from hep2.errors import HEp2Error, one_of, whole
from hep2.files import write_atomic
from hep2.nets.architectures import read_checkpoint
from hep2.rundir.artifacts import cells_csv, latent_map, reconstructions_record, typical_and_worst
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import pool_of
from hep2.rundir.result import name_metrics
from hep2.stages.checkpoints import same_file
from hep2.stages.training import NetworkStage
from hep2.tasks.denoising import Denoising
from hep2.tasks.joint_embedding import JointEmbedding
from hep2.tasks.pretraining import pretrain_layers
from hep2.tasks.reconstruction import Reconstruction

log = logging.getLogger(__name__)

Errors = NDArray[np.float64]  # mean squared error of each cell, shape (N,)

RANKED, TINY = 1024, 1e-7  # cells whose singular values are taken; the paper's epsilon

# To add an objective: write its task, a subclass of `Reconstruction`, add it here, and give it a
# conf/stage/<name>.yaml, whose `objective` has the settings of its constructor.
OBJECTIVES: dict[str, type[Reconstruction]] = {
    "reconstruction": Reconstruction,
    "denoising": Denoising,
    "joint_embedding": JointEmbedding,
}


class AutoencoderStage(NetworkStage):
    """Scored by how well it reconstructs cells of specimens that it has never seen."""

    tunable = True
    inputs: CellImages
    task: Reconstruction

    def configure_inputs(self) -> CellImages:
        """The fold's images, augmented."""
        stage = self.cfg.stage
        return augmented_images(self.cfg, self.fold, stage.view, raw=self.objective.perturbs)

    @property
    def objective(self) -> type[Reconstruction]:
        """What is learned, by its name in OBJECTIVES; HEp2Error where that is unknown."""
        return one_of("stage.objective.name", self.cfg.stage.objective.name, OBJECTIVES)

    def configure_task(self) -> Reconstruction:
        """A fresh autoencoder."""
        model, stage = self.cfg.model, self.cfg.stage
        settings = arguments(stage.objective)
        known = inspect.signature(self.objective).parameters
        if unknown := sorted(set(settings) - set(known)):
            raise HEp2Error(
                f"stage.objective: {stage.objective.name} has no setting {', '.join(unknown)}"
            )
        if self.objective.perturbs and model.network.get("bounded", True):
            raise HEp2Error(
                f"stage={stage.name} gives back standardised cells, but the network keeps them in "
                "[0, 1]: add model.network.bounded=false (experiment=dcae_plus does)"
            )
        return self.objective(
            **settings,
            architecture=model.architecture,
            network=plain(model.network),
            loss=stage.loss,
            optimizer=plain(stage.optimizer),
            provenance=self.fold.provenance,
            view=stage.view,
        )

    def train(self, loggers: list[Logger]) -> int | None:
        """Train, or take the weights of another fold that has learned from the same cells.

        Layers by themselves come first, where that is asked for.
        """
        stage = self.cfg.stage
        if not whole(stage.pretrain_epochs, 0):
            raise HEp2Error(
                f"stage.pretrain_epochs={stage.pretrain_epochs} must be a whole number, 0 or more"
            )
        # No trial: the twin may have learned from the cells that the trial holds out.
        if self.kept and not self.run.last.is_file() and (twin := self._twin()):
            log.info("%s has learned from the same cells: its weights are taken", twin.path)
            for theirs, ours in ((twin.best, self.run.best), (twin.last, self.run.last)):
                same_file(theirs, ours)
        elif stage.pretrain_epochs and not self.run.last.is_file():
            task = self.task.to(device(self.cfg))
            pretrain_layers(task, self.datamodule, stage.pretrain_epochs, stage.optimizer.lr)
        return super().train(loggers)

    def _twin(self) -> RunDir | None:
        """The finished run of another fold with these settings and the same cells to learn from."""
        if (pool := pool_of(self.cfg)) is None:
            return None
        for path in sorted(pool.parent.glob(f"fold*/{pool.name}")):
            other, cfg = RunDir(path), self.cfg.copy()
            cfg.fold = int(path.parent.name.removeprefix("fold"))
            with suppress(HEp2Error):  # another configuration, or damaged
                other.check(cfg)
                known = read_checkpoint(other.last)["hyper_parameters"].get("provenance")
                if other.finished and known == self.fold.provenance:
                    return other
        return None

    def held_out_score(self) -> float:
        """The negative of the mean squared error."""
        errors, _ = errors_and_latents(self.task, self.inputs, self.fold.split.test)
        return -float(errors.mean())

    def score(self) -> dict[str, Any]:
        """Reconstruction errors on the test cells, and whether the latents are worth a head."""
        split = self.fold.split
        errors, latents = errors_and_latents(self.task, self.inputs, split.test)
        guessed = errors_of_mean_image(self.inputs, split)
        score = score_reconstruction(errors, guessed, latents)
        if score.collapsed:
            log.warning("the autoencoder has collapsed, its latents mean nothing: %s", score)
        places = latent_map(latents, self.cfg.seed)
        write_atomic(self.run.predictions, cells_csv(self.fold, errors, places))
        validation, _ = errors_and_latents(self.task, self.inputs, split.val)
        held_out = np.concatenate([validation, errors])
        return {
            "metrics": name_metrics(self.fold, asdict(score)),
            "collapsed": score.collapsed,
            "labels_in_features": False,
            "novelty": {
                "percentile": PERCENTILE,
                "mse": float(np.percentile(held_out, PERCENTILE)),
                "cells": len(held_out),
            },
            "reconstructions": self._reconstructions(errors),
        }

    def _reconstructions(self, errors: Errors) -> dict[str, Any]:
        """A few test cells and what the autoencoder makes of them, for the report."""
        test = self.fold.split.test
        chosen = typical_and_worst(errors, self.fold.cells.labels[test])
        shown = test[[row for row, _ in chosen]]

        def pixels(image: Tensor) -> Tensor:
            made = self.task.displayed(self.task(image.to(self.task.device)))[:, 0]
            return (made.float().cpu() * 255).round().to(torch.uint8)

        images = torch.cat(list(in_batches(self.inputs, shown, pixels))).numpy()
        return reconstructions_record(self.fold, errors, chosen, images)


def augmented_images(
    cfg: DictConfig, fold: Fold, view: str = "intensity", raw: bool = False
) -> CellImages:
    """The fold's images, with the augmentation that the configuration asks for."""
    settings = arguments(cfg.augment)
    batched = settings.pop("batched", False)
    if not isinstance(batched, bool):
        raise HEp2Error(f"augment.batched={batched} must be true or false")
    if not any(settings.values()):
        return CellImages(fold.cells, view=view, raw=raw)
    augmentation = Augmentation(**settings, seed=cfg.seed, cells=len(fold.cells))
    return CellImages(fold.cells, augmentation, batched, view, raw)


def errors_and_latents(
    task: Reconstruction, images: CellImages, cells: Indices
) -> tuple[Errors, NDArray[np.float32]]:
    """Mean squared error, shape (N,), and latent, shape (N, D), of N cells, or of none."""

    def both(image: Tensor) -> tuple[Tensor, Tensor]:
        image = image.to(task.device)
        latent = task.encoder(image)
        return squared_error(task.decoder(latent), image).cpu(), latent.float().cpu()

    task.eval()
    none = torch.empty(0, dtype=torch.float64), torch.empty(0, task.encoder.latent_size)
    errors, latents = zip(none, *in_batches(images, cells, both), strict=True)
    return torch.cat(errors).numpy(), torch.cat(latents).numpy()


def errors_of_mean_image(images: CellImages, split: Split) -> Errors:
    """Error of each test cell, shape (N,), where the mean of the training images is the guess."""
    sums = in_batches(images, split.train, lambda image: image.double().sum(dim=0))
    mean = (sum(sums, torch.zeros(())) / len(split.train)).float()  # (1, H, W)
    errors = in_batches(images, split.test, lambda image: squared_error(mean, image))
    return torch.cat(list(errors)).numpy()


@dataclass(frozen=True)
class ReconstructionScore:
    """How well an autoencoder reconstructs cells that it has never seen."""

    mse: float  # mean squared error over pixels and cells, intensities in [0, 1]
    mse_of_mean_image: float  # of the mean training image as the guess: to be beaten
    dead_latents: float  # share of latent values that are the same for all cells
    rankme: float  # how many directions the latents fill

    @property
    def collapsed(self) -> bool:
        """Whether the latents are not worth a head."""
        return self.mse >= self.mse_of_mean_image or self.dead_latents > 0.99


def score_reconstruction(
    errors: Errors, guessed: Errors, latents: NDArray[np.float32]
) -> ReconstructionScore:
    """Score N cells: their errors, shape (N,), those of the mean image, latents, shape (N, D)."""
    dead = latents.min(axis=0) == latents.max(axis=0)
    return ReconstructionScore(
        float(errors.mean()), float(guessed.mean()), float(dead.mean()), rankme(latents)
    )


def rankme(latents: NDArray[np.float32]) -> float:
    """Effective rank of latents (N, D): exp of the entropy of their singular values' shares.

    Garrido et al., RankMe, ICML 2023, equations 1 and 2: a greater one goes with better heads,
    and no label is read. Of at most RANKED cells, spread evenly.
    """
    values = np.linalg.svd(latents[spread(len(latents), RANKED)], compute_uv=False)
    shares = values / max(values.sum(), TINY) + TINY
    return float(np.exp(-(shares * np.log(shares)).sum()))


def squared_error(guess: Tensor, image: Tensor) -> Tensor:
    """Mean squared error of each image, shape (B,)."""
    return (guess - image).double().square().mean(dim=(1, 2, 3))
