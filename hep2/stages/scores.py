"""What is written and measured once a stage has named the test cells."""

from typing import Any

import numpy as np

from hep2.calls.calibration import Calibration
from hep2.calls.figures import calls_record, cell_figures, curve_record, specimen_figures
from hep2.calls.record import as_record
from hep2.calls.unlike import is_unlike, novelty
from hep2.data.fold import Fold
from hep2.files import write_atomic
from hep2.heads.estimator import Probabilities
from hep2.metrics import FloatArray, by_group, confusion_counts, recalls, summarise
from hep2.rundir.artifacts import mistakes_record, reconstruction_errors
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import encoder_paths
from hep2.rundir.predictions import predictions_csv
from hep2.rundir.result import name_metrics
from hep2.stages.training import Stage


def novelty_of(stage: Stage) -> FloatArray | None:
    """How strange the test cells are to the fold's encoder, (cells,); None where it cannot tell.

    As its own run has found when it rebuilt them; see `hep2.calls.unlike`.
    """
    cells, test = stage.fold.cells, stage.fold.split.test
    for checkpoint in encoder_paths(stage.cfg, selected=not stage.fold.split.note):
        errors = reconstruction_errors(RunDir(checkpoint.parent).predictions, cells.ids[test])
        if errors is None:
            continue
        found = novelty(errors, cells.specimens[test])
        if np.isfinite(found).all():
            return found
    return None


def score_classifier(
    fold: Fold,
    run: RunDir,
    probabilities: Probabilities,
    calibration: Calibration | str = "nothing was held out",
    strange: FloatArray | None = None,
) -> dict[str, Any]:
    """Write predictions.csv of the test cells, shape (cells, classes); return their metrics.

    With them goes how far they can be believed, by the calibration, or why there is none, and the
    novelty of each cell, shape (cells,), where it is known.
    """
    test, classes = fold.split.test, fold.cells.classes
    write_atomic(run.predictions, predictions_csv(fold.cells, test, probabilities, strange))
    targets, outputs = fold.cells.labels[test], probabilities.argmax(axis=1)
    specimens = fold.cells.specimens[test]
    known = specimens if np.all(specimens != "") else None
    believed = calibration if isinstance(calibration, Calibration) else None
    metrics = summarise(targets, outputs, probabilities, len(classes), known)
    metrics |= cell_figures(targets, outputs, probabilities, believed)
    said = dict[str, Any]()
    if known is not None:
        unlike = None if strange is None else is_unlike(strange)
        cells = (specimens, targets, probabilities, believed)
        metrics |= specimen_figures(*cells, unlike)
        said["specimen_calls"] = calls_record(*cells, classes, unlike)
        said["called_against_error"] = curve_record(said["specimen_calls"])
    recall = recalls(confusion_counts(targets, outputs, len(classes))).tolist()
    strengths = by_group(fold.cells.intensities[test], targets, outputs, len(classes))
    return {
        "metrics": name_metrics(fold, metrics),
        "recall": {k: None if np.isnan(v) else v for k, v in zip(classes, recall, strict=True)},
        "mistakes": mistakes_record(fold, probabilities),
        "calibration": as_record(calibration, classes),
        **said,
        **({"by_intensity": strengths} if strengths else {}),
    }
