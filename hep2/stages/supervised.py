"""Encoder and head trained together, from labels: what supervision adds at equal architecture."""

from omegaconf import DictConfig

from hep2.errors import HEp2Error
from hep2.fold import Fold
from hep2.rundir import RunDir
from hep2.stages.autoencoder import augmented_images
from hep2.stages.classifier import new_classifier
from hep2.stages.features import own_encoders
from hep2.stages.head import HeadStage
from hep2.stages.network import plain
from hep2.tasks.classification import Classification


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
