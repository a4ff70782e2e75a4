"""What classifiers have in common: how one is made, and how its predictions are scored."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from hep2.errors import HEp2Error
from hep2.evaluation.metrics import confusion_counts, recalls, summarise
from hep2.features.checkpoint import EncoderCheckpoint
from hep2.files import write_atomic
from hep2.fold import Fold
from hep2.results import metrics, predictions_csv
from hep2.rundir import RunDir
from hep2.stages.network import plain
from hep2.stages.record import mistakes_record
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
        "metrics": metrics(fold, "test", figures),
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
