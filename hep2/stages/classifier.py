"""Classifiers: heads on features, supervised networks, and heads that are not networks."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from omegaconf import DictConfig

from hep2.calls.calibration import HeldOut
from hep2.config import arguments, is_estimator, plain
from hep2.data.cells import Indices
from hep2.data.fold import Fold
from hep2.data.inputs import CachedFeatures, CellImages
from hep2.errors import HEp2Error, check_number, one_of
from hep2.features.encoder import EncoderCheckpoint, own_encoders
from hep2.features.extraction import features_of
from hep2.features.kept import write_kept
from hep2.features.transforms import Representation
from hep2.heads.estimator import (
    Estimator,
    Labels,
    Probabilities,
    TrainingCells,
    inner_folds,
    refitted,
)
from hep2.metrics import confusion_counts, mca
from hep2.nets.architectures import ENCODERS
from hep2.rundir.directory import RunDir
from hep2.stages.autoencoder import augmented_images
from hep2.stages.held_out import calibration_by, held_out, settings_of
from hep2.stages.scores import novelty_of, score_classifier
from hep2.stages.training import NetworkStage, Stage, trained_apart
from hep2.tasks.classification import Classification, balanced_weights


class ClassifierStage(NetworkStage):
    """A network that classifies, scored by its predictions of the test cells."""

    tunable = True
    freeze: bool  # whether the encoder stays as it is
    start: EncoderCheckpoint | None  # the encoder that it starts from; None: a fresh one
    labels_in_features: bool | None  # whether they were learned with labels; None: not learned
    task: Classification
    held_out: HeldOut | str  # to calibrate with, or why there is nothing

    @abstractmethod
    def fresh_encoder(self) -> tuple[str | None, dict[str, Any]]:
        """Architecture and arguments of the encoder where there is none to start from."""

    def configure_task(self) -> Classification:
        """A fresh head behind its encoder."""
        settings_of(self.cfg)  # are wrong before the training, or not at all
        cfg, fold, start = self.cfg, self.fold, self.start
        encoder = (start.architecture, start.network) if start else self.fresh_encoder()
        task = Classification(
            *encoder,
            head=arguments(cfg.head),
            classes=list(fold.cells.classes),
            freeze=self.freeze,
            optimizer=plain(cfg.stage.optimizer),
            class_weights=class_weights(cfg, fold),
            protocol=fold.protocol,
            provenance=fold.provenance,
            view=start.view if start else "intensity",
            orientations=cfg.features.orientations if self.freeze else 1,
            mixup=cfg.stage.mixup,
            label_smoothing=cfg.stage.label_smoothing,
        )
        if start and task.encoder:
            start.load_into(task.encoder)
        return task

    @property
    def chances(self) -> NDArray[np.float64] | None:
        """As `stage.sampling` asks; HEp2Error where it is unknown."""
        cells, train = self.fold.cells, self.fold.split.train
        return chances_of(self.cfg.stage.sampling, cells.labels[train], cells.specimens[train])

    @property
    def monitor(self) -> str | None:
        """`val/loss`, or the MCA on validation cells where the stage asks for that."""
        asked = self.cfg.stage.get("choose_by", "loss")
        by_mca = one_of("stage.choose_by", asked, {"loss": False, "mca": True})
        loss = super().monitor
        return f"val/{self.fold.protocol}/mca" if loss and by_mca else loss

    def held_out_score(self) -> float:
        """The MCA."""
        cells = self.fold.cells
        labels, outputs = cells.labels[self.fold.split.test], self.probabilities().argmax(axis=1)
        return float(mca(confusion_counts(labels, outputs, len(cells.classes))))

    def score(self) -> dict[str, Any]:
        """Predictions and metrics of the test cells."""
        believed = calibration_by(self, self.held_out)
        novelty = novelty_of(self) if self.freeze else None  # one that learns on rebuilds nothing
        named = self.probabilities()
        metrics = score_classifier(self.fold, self.run, named, believed, novelty)
        return metrics | {"labels_in_features": self.labels_in_features}

    def hold_out(self) -> None:
        """Train without some of the training specimens, and name those."""
        self.held_out = held_out(self, self.probabilities, self._named_apart)

    def _named_apart(self, learning: Indices, held: Indices, number: int) -> Probabilities:
        cfg, scratch = self.cfg.copy(), RunDir(self.run.path / f"apart{number}")
        cfg.stage.epochs = max(1, round(cfg.stage.calibration.epochs * cfg.stage.epochs))
        with trained_apart(self, cfg, learning, held, scratch) as trial:
            return trial.probabilities()

    @torch.inference_mode()
    def probabilities(self, cells: Indices | None = None) -> Probabilities:
        """Class probabilities, shape (cells, classes), of the test cells where none are given."""
        task, module = self.task.eval(), self.datamodule
        if cells is not None:
            module.split = replace(module.split, test=cells)
        logits = [
            task.logits({key: value.to(task.device) for key, value in batch.items()})
            for batch in module.test_dataloader()
        ]
        return np.asarray(torch.cat(logits).double().softmax(dim=1).cpu().numpy())


class HeadStage(ClassifierStage):
    """A head on features that are there or are computed now.

    The features of one encoder keep it in the task: the checkpoint then names patterns by itself.
    What makes others is kept beside it.
    """

    freeze = True
    inputs: CachedFeatures
    representation: Representation

    def configure_inputs(self) -> CachedFeatures:
        """Features of all cells."""
        features = features_of(self.cfg, self.fold)
        self.start = features.checkpoints[0] if len(features.checkpoints) == 1 else None
        self.labels_in_features = features.learned_with_labels
        self.representation = features.representation
        return features.inputs

    def score(self) -> dict[str, Any]:
        """Predictions and metrics of the test cells."""
        if self.task.encoder is None:
            write_kept(self.run.fitted, self.representation, None, self.fold.provenance)
        return super().score()

    def fresh_encoder(self) -> tuple[str | None, dict[str, Any]]:
        """None: the head takes features."""
        return None, {"latent_size": self.inputs.size}


class SupervisedStage(ClassifierStage):
    """Encoder and head learn together: fresh, or from the fold's own autoencoder."""

    freeze = False
    labels_in_features = True

    def configure_inputs(self) -> CellImages:
        """The fold's images, augmented; HEp2Error where the head is not a network."""
        if is_estimator(self.cfg.head):
            raise HEp2Error(
                f"stage={self.cfg.stage.name} trains a network, which head={self.cfg.head.name} is "
                "not: choose head=mlp or head=linear, or stage=head"
            )
        self.start = next(iter(own_encoders(self.cfg, self.fold)), None)
        view = self.start.view if self.start else "intensity"
        return augmented_images(self.cfg, self.fold, view)

    def fresh_encoder(self) -> tuple[str | None, dict[str, Any]]:
        """The network of the configuration."""
        one_of("model.architecture", self.cfg.model.architecture, ENCODERS)  # null is a head alone
        return self.cfg.model.architecture, plain(self.cfg.model.network)


class EstimatorStage(Stage):
    """A head that is not a network, on features as they are; its own grid chooses its settings."""

    inputs: CachedFeatures
    representation: Representation
    task: Estimator
    held_out: HeldOut | str

    def configure_inputs(self) -> CachedFeatures:
        """Features of all cells."""
        features = features_of(self.cfg, self.fold)
        self.labels_in_features = features.learned_with_labels
        self.representation = features.representation
        return features.inputs

    def configure_task(self) -> Estimator:
        """The estimator that the configuration names."""
        settings_of(self.cfg)
        estimator: Estimator = instantiate(self.cfg.head.estimator, _convert_="all")
        return estimator

    def train(self, loggers: list[Logger]) -> int | None:
        """Choose hyper-parameters on inner folds and fit; an estimator has no epochs.

        Of several processes, as a cluster may start them, the first does the work.
        """
        if getattr(rank_zero_only, "rank", 0):
            return None
        folds = inner_folds(self.fold, self.cfg.stage.inner_folds)
        self.task.fit(replace(self._cells(self.fold.split.train), folds=folds))
        return 0

    def _cells(self, rows: Indices) -> TrainingCells:
        """Some of the data set's cells, to learn from."""
        return TrainingCells(
            features=self.inputs.of(rows),
            labels=self.fold.cells.labels[rows],
            classes=len(self.fold.cells.classes),
            class_weights=class_weights(self.cfg, self.fold),
        )

    def hold_out(self) -> None:
        """Fit without some of the training specimens, with the settings chosen, and name those."""
        if getattr(rank_zero_only, "rank", 0):
            return
        train = self.fold.split.train

        def validation(rows: Indices) -> Probabilities:
            return self.task.probabilities(self.inputs.of(rows))

        def apart(learning: Indices, held: Indices, _: int) -> Probabilities:
            other = refitted(self.task, self._cells(train[learning]))
            return other.probabilities(self.inputs.of(train[held]))

        self.held_out = held_out(self, validation, apart)

    def score(self) -> dict[str, Any]:
        """Predictions and metrics of the test cells, and the settings chosen."""
        write_kept(self.run.fitted, self.representation, self.task, self.fold.provenance)
        test = self.inputs.of(self.fold.split.test)
        named, believed = self.task.probabilities(test), calibration_by(self, self.held_out)
        metrics = score_classifier(self.fold, self.run, named, believed, novelty_of(self))
        known = {"labels_in_features": self.labels_in_features, "chosen": self.task.chosen}
        return metrics | known


def head(cfg: DictConfig, fold: Fold, run: RunDir) -> HeadStage | EstimatorStage:
    """The stage of a head, a network or not."""
    return (EstimatorStage if is_estimator(cfg.head) else HeadStage)(cfg, fold, run)


def chances_of(
    sampling: str, labels: Labels, specimens: NDArray[np.str_]
) -> NDArray[np.float64] | None:
    """The chance of each cell to be drawn, (N,); None: each is drawn once an epoch.

    Raises:
        HEp2Error: such a sampling is unknown.
    """
    evenly = one_of("stage.sampling", sampling, {"cells": False, "specimens": True})
    return even_chances(labels, specimens) if evenly else None


def even_chances(labels: Labels, specimens: NDArray[np.str_]) -> NDArray[np.float64]:
    """A chance for each cell, (N,): patterns are equal, and so are the specimens of a pattern.

    Cells of unknown specimens, "", count as one more.
    """
    owners, owner = np.unique(specimens, return_inverse=True)
    pairs, pair, sizes = np.unique(
        labels * len(owners) + owner, return_inverse=True, return_counts=True
    )
    patterns, pattern, members = np.unique(
        pairs // len(owners), return_inverse=True, return_counts=True
    )
    return np.asarray(1 / (len(patterns) * members[pattern] * sizes))[pair]


def class_weights(cfg: DictConfig, fold: Fold) -> list[float] | None:
    """None, the balanced ones, or those listed; HEp2Error where they are not one for each class."""
    asked, classes = plain(cfg.stage.class_weights), fold.cells.classes
    if asked == "balanced":
        return balanced_weights(fold.cells.labels[fold.split.train], len(classes))
    if asked is None:
        return None
    if isinstance(asked, list) and len(asked) == len(classes):
        for weight in asked:
            check_number("stage.class_weights", weight)
        return asked
    raise HEp2Error(
        f"stage.class_weights={asked} must be null, balanced, or a list of one weight for each "
        f"of {', '.join(classes)}"
    )
