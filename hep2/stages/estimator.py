"""A stage whose work is the fitting of a head that is no network."""

from dataclasses import dataclass
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from hep2.fold import Fold
from hep2.heads.estimator import Estimator, TrainingCells, inner_folds
from hep2.rundir import RunDir
from hep2.stages.classifier import class_weights, score_classifier
from hep2.stages.features import Features


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
