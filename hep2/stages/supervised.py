"""Encoder and head trained together, from labels: what supervision adds at equal architecture."""

from omegaconf import DictConfig

from hep2.errors import HEp2Error
from hep2.fold import Fold
from hep2.rundir import RunDir
from hep2.stages.autoencoder import augmented_images
from hep2.stages.classifier import class_weights
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
    start = own_encoders(cfg, fold)
    view = start[0].view if start else "intensity"
    task = Classification(
        architecture=start[0].architecture if start else cfg.model.architecture,
        network=start[0].network if start else plain(cfg.model.network),
        head={key: value for key, value in plain(cfg.head).items() if key != "name"},
        classes=list(fold.cells.classes),
        freeze=False,
        optimizer=plain(cfg.stage.optimizer),
        class_weights=class_weights(cfg, fold),
        protocol=fold.protocol,
        provenance=fold.provenance,
        view=view,
    )
    if start and task.encoder:
        start[0].load_into(task.encoder)
    return HeadStage(
        cfg, fold, run, task, augmented_images(cfg, fold, view), labels_in_features=True
    )
