"""What classifiers have in common: how one is made, and how its predictions are scored."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import numpy as np
import torch
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from hep2.config import plain
from hep2.data.fold import Fold
from hep2.errors import HEp2Error
from hep2.features.encoder import EncoderCheckpoint, own_encoders
from hep2.features.extraction import Features, features_of
from hep2.files import write_atomic
from hep2.heads.estimator import Estimator, TrainingCells, inner_folds
from hep2.metrics import confusion_counts, mca, recalls, summarise
from hep2.rundir.artifacts import mistakes_record
from hep2.rundir.directory import RunDir
from hep2.rundir.predictions import predictions_csv
from hep2.rundir.result import name_metrics
from hep2.stages.autoencoder import augmented_images
from hep2.stages.tuning import TunableStage
from hep2.tasks.classification import Classification, balanced_weights


def new_classifier(
    cfg: DictConfig,
    fold: Fold,
    start: EncoderCheckpoint | None,
    architecture: str | None,
    network: dict[str, Any],
    freeze: bool,
) -> Classification:
    """A network with a fresh head.

    Args:
        cfg: its head, optimiser and class weights.
        fold: whose patterns it names.
        start: the encoder with its weights; None: a fresh one.
        architecture: of the fresh encoder; None: a head alone.
        network: arguments of the fresh encoder, or {"latent_size": ...}.
        freeze: whether the encoder stays as it is.
    """
    task = Classification(
        architecture=start.architecture if start else architecture,
        network=start.network if start else network,
        head={key: value for key, value in plain(cfg.head).items() if key != "name"},
        classes=list(fold.cells.classes),
        freeze=freeze,
        optimizer=plain(cfg.stage.optimizer),
        class_weights=class_weights(cfg, fold),
        protocol=fold.protocol,
        provenance=fold.provenance,
        view=start.view if start else "intensity",
        # Only a head on features is tested on several orientations.
        test_orientations=cfg.features.test_orientations if freeze else 1,
    )
    if start and task.encoder:
        start.load_into(task.encoder)
    return task


def score_classifier(fold: Fold, run: RunDir, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Write predictions.csv and return the figures for result.json.

    Args:
        fold: whose test cells were classified.
        run: where predictions.csv goes.
        probabilities: one row a test cell, shape (cells, classes).
    """
    write_atomic(run.predictions, predictions_csv(fold, probabilities))
    test, classes = fold.split.test, fold.cells.classes
    targets, outputs = fold.cells.labels[test], probabilities.argmax(axis=1)
    specimens = fold.cells.specimens[test]
    known = specimens if np.all(specimens != "") else None
    figures = summarise(targets, outputs, probabilities, len(classes), known)
    recall = recalls(confusion_counts(targets, outputs, len(classes)))
    return {
        "metrics": name_metrics(fold, "test", figures),
        "recall": {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(classes, recall, strict=True)
        },
        "mistakes": mistakes_record(fold, probabilities),
    }


def class_weights(cfg: DictConfig, fold: Fold) -> list[float] | None:
    """None, the balanced ones, or those that the configuration lists.

    Raises:
        HEp2Error: the list has not one weight for each class.
    """
    asked = plain(cfg.stage.class_weights)
    classes = fold.cells.classes
    if asked == "balanced":
        return balanced_weights(fold.cells.labels[fold.split.train], len(classes))
    if asked is None or (isinstance(asked, list) and len(asked) == len(classes)):
        return asked
    raise HEp2Error(
        f"stage.class_weights={asked} must be null, balanced, or a list of one weight for each "
        f"of {', '.join(classes)}"
    )


def probabilities(task: Classification, loader: Iterable[Any]) -> NDArray[np.float64]:
    """Class probabilities of every cell that a loader gives, in its order.

    Shape:
        (N, classes), rows sum to 1
    """
    parts = [task.logits(batch).double().softmax(dim=1) for batch in _batches(task, loader)]
    return np.asarray(torch.cat(parts).cpu().numpy())


def _batches(module: L.LightningModule, loader: Iterable[Any]) -> Iterator[dict[str, Tensor]]:
    """Batches on the module's device, the module in evaluation, without gradients."""
    module.eval()
    with torch.inference_mode():
        for batch in loader:
            yield {key: value.to(module.device) for key, value in batch.items()}


@dataclass
class EstimatorStage:
    """Fits on the training cells as they are, unturned; nothing is kept but figures."""

    cfg: DictConfig
    fold: Fold
    run: RunDir
    features: Features

    def train(self, loggers: list[Logger]) -> int | None:
        """Choose hyper-parameters on inner folds and fit; an estimator has no epochs.

        Of several processes, as a cluster may start them, the first does the work.
        """
        if getattr(rank_zero_only, "rank", 0):
            return None
        self.estimator: Estimator = instantiate(self.cfg.head.estimator, _convert_="all")
        train = self.fold.split.train
        self.estimator.fit(
            TrainingCells(
                features=self.features.inputs.training.of(train),
                labels=self.fold.cells.labels[train],
                classes=len(self.fold.cells.classes),
                folds=inner_folds(self.fold, self.cfg.stage.inner_folds),
                class_weights=class_weights(self.cfg, self.fold),
            )
        )
        return 0

    def score(self) -> dict[str, Any]:
        """Predictions and figures of the test cells."""
        test = self.features.inputs.evaluation.of(self.fold.split.test)
        figures = score_classifier(self.fold, self.run, self.estimator.probabilities(test))
        return figures | {
            "labels_in_features": self.features.learned_with_labels,
            "chosen": self.estimator.chosen,
        }


def head(cfg: DictConfig, fold: Fold, run: RunDir) -> "HeadStage | EstimatorStage":
    """A fresh head, a network or not, on features that are there or are computed now.

    The features of one encoder keep it in the task: the checkpoint then names patterns by itself.

    Raises:
        HEp2Error: an encoder is missing, or belongs to another fold.
    """
    if "estimator" in cfg.head:
        return EstimatorStage(cfg, fold, run, features_of(cfg, fold, orientations=1))
    features = features_of(cfg, fold, cfg.features.orientations)
    encoder = features.checkpoints[0] if len(features.checkpoints) == 1 else None

    def new_task(cfg: DictConfig) -> Classification:
        size = {"latent_size": features.inputs.size}
        return new_classifier(cfg, fold, encoder, architecture=None, network=size, freeze=True)

    return HeadStage(cfg, fold, run, new_task, features.inputs, features.learned_with_labels)


@dataclass
class HeadStage(TunableStage):
    """A network that classifies, scored by its predictions of the test cells.

    Attributes:
        labels_in_features: whether the features were learned with labels; None: not learned.
    """

    task: Classification = field(init=False)
    labels_in_features: bool | None

    @property
    def monitor(self) -> str:
        """`val/loss`, or the MCA on validation cells where the stage asks for that."""
        by_mca = self.cfg.stage.get("choose_by", "loss") == "mca"
        return f"val/{self.fold.protocol}/mca" if by_mca else "val/loss"

    def held_out_figure(self) -> float:
        """The MCA."""
        labels, classes = self.fold.cells.labels[self.fold.split.test], self.fold.cells.classes
        outputs = self._probabilities().argmax(axis=1)
        return float(mca(confusion_counts(labels, outputs, len(classes))))

    def score(self) -> dict[str, Any]:
        """Predictions and figures of the test cells."""
        figures = score_classifier(self.fold, self.run, self._probabilities())
        return figures | {"labels_in_features": self.labels_in_features}

    def _probabilities(self) -> NDArray[np.float64]:
        return probabilities(self.task, self.datamodule.test_dataloader())


def supervised(cfg: DictConfig, fold: Fold, run: RunDir) -> HeadStage:
    """A fresh network, or one that starts from the fold's own autoencoder, on augmented images.

    Raises:
        HEp2Error: the head is no network; the autoencoder is missing, or belongs to another fold.
    """
    if "estimator" in cfg.head:
        raise HEp2Error(
            f"stage={cfg.stage.name} trains a network, which head={cfg.head.name} is not: choose "
            "head=mlp or head=linear, or stage=head"
        )
    start = next(iter(own_encoders(cfg, fold)), None)
    images = augmented_images(cfg, fold, start.view if start else "intensity")

    def new_task(cfg: DictConfig) -> Classification:
        model = cfg.model
        return new_classifier(
            cfg, fold, start, model.architecture, plain(model.network), freeze=False
        )

    return HeadStage(cfg, fold, run, new_task, images, labels_in_features=True)
