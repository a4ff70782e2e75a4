"""Stage 2: a head on the latents of the fold's own, frozen encoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from hep2.errors import HEp2Error
from hep2.features.checkpoint import read_encoder
from hep2.features.latents import latents_of_fold
from hep2.fold import Fold
from hep2.rundir import RunDir, encoder_path, train_command
from hep2.scoring import probabilities
from hep2.stages.classifier import score_classifier
from hep2.stages.network import NetworkStage, plain
from hep2.tasks.classification import Classification, balanced_weights


def head(cfg: DictConfig, fold: Fold, run: RunDir) -> "HeadStage":
    """The fold's encoder, loaded and frozen, and a fresh head on its cached latents.

    Raises:
        HEp2Error: the encoder is missing, or belongs to another fold.
    """
    path = encoder_path(cfg, selected=not fold.split.note)
    checkpoint = read_encoder(path, fold.provenance, train_command(cfg, cfg.features.stage))
    task = Classification(
        architecture=checkpoint.architecture,
        network=checkpoint.network,
        head={key: value for key, value in plain(cfg.head).items() if key != "name"},
        classes=list(fold.cells.classes),
        freeze=True,
        optimizer=plain(cfg.stage.optimizer),
        class_weights=class_weights(cfg, fold),
        protocol=fold.protocol,
        provenance=fold.provenance,
    )
    checkpoint.load_into(task.encoder, path)
    on_gpu = cfg.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    latents = latents_of_fold(
        task.encoder.to("cuda" if on_gpu else "cpu"),
        fold,
        cfg.features.orientations,
        Path(cfg.cache_dir),
        cfg.seed,
    )
    return HeadStage(cfg, fold, run, task, latents)


@dataclass
class HeadStage(NetworkStage):
    """Scored by its predictions of the test cells."""

    task: Classification

    def score(self) -> dict[str, Any]:
        """Predictions and figures of the test cells."""
        rows = probabilities(self.task, self.datamodule.test_dataloader())
        return score_classifier(self.fold, self.run, rows)


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
