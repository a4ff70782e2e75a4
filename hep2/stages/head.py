"""Stage 2: any head on any features."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from hep2.evaluation.metrics import confusion_counts, mca
from hep2.fold import Fold
from hep2.rundir import RunDir
from hep2.scoring import probabilities
from hep2.stages.classifier import new_classifier, score_classifier
from hep2.stages.estimator import EstimatorStage
from hep2.stages.features import features_of
from hep2.stages.tuning import TunableStage
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
