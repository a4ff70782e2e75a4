"""Stage 2: any head on any features."""

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from hep2.fold import Fold
from hep2.rundir import RunDir
from hep2.scoring import probabilities
from hep2.stages.classifier import class_weights, score_classifier
from hep2.stages.estimator import EstimatorStage
from hep2.stages.features import features_of
from hep2.stages.network import NetworkStage, plain
from hep2.tasks.classification import Classification


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
    task = Classification(
        architecture=encoder.architecture if encoder else None,
        network=encoder.network if encoder else {"latent_size": features.inputs.size},
        head={key: value for key, value in plain(cfg.head).items() if key != "name"},
        classes=list(fold.cells.classes),
        freeze=True,
        optimizer=plain(cfg.stage.optimizer),
        class_weights=class_weights(cfg, fold),
        protocol=fold.protocol,
        provenance=fold.provenance,
        view=encoder.view if encoder else "intensity",
    )
    if encoder and task.encoder:
        encoder.load_into(task.encoder)
    return HeadStage(cfg, fold, run, task, features.inputs, features.learned_with_labels)


@dataclass
class HeadStage(NetworkStage):
    """A network that classifies, scored by its predictions of the test cells.

    Attributes:
        labels_in_features: whether the features were learned with labels; None: not learned.
    """

    task: Classification
    labels_in_features: bool | None

    @property
    def monitor(self) -> str:
        """`val/loss`, or the MCA on validation cells where the stage asks for that."""
        by_mca = self.cfg.stage.get("choose_by", "loss") == "mca"
        return f"val/{self.fold.protocol}/mca" if by_mca else "val/loss"

    def score(self) -> dict[str, Any]:
        """Predictions and figures of the test cells."""
        rows = probabilities(self.task, self.datamodule.test_dataloader())
        figures = score_classifier(self.fold, self.run, rows)
        return figures | {"labels_in_features": self.labels_in_features}
