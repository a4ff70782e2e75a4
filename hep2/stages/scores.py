"""What is written and measured once a stage has named the test cells."""

from typing import Any

import numpy as np

from hep2.calls.calibration import Calibration, as_record
from hep2.calls.figures import calls_record, cell_figures, specimen_figures
from hep2.data.fold import Fold
from hep2.files import write_atomic
from hep2.heads.estimator import Probabilities
from hep2.metrics import by_group, confusion_counts, recalls, summarise
from hep2.rundir.artifacts import mistakes_record
from hep2.rundir.directory import RunDir
from hep2.rundir.predictions import predictions_csv
from hep2.rundir.result import name_metrics


def score_classifier(
    fold: Fold,
    run: RunDir,
    probabilities: Probabilities,
    calibration: Calibration | str = "nothing was held out",
) -> dict[str, Any]:
    """Write predictions.csv of the test cells, shape (cells, classes); return their metrics.

    With them goes how far they can be believed, by the calibration, or why there is none.
    """
    test, classes = fold.split.test, fold.cells.classes
    write_atomic(run.predictions, predictions_csv(fold.cells, test, probabilities))
    targets, outputs = fold.cells.labels[test], probabilities.argmax(axis=1)
    specimens = fold.cells.specimens[test]
    known = specimens if np.all(specimens != "") else None
    believed = calibration if isinstance(calibration, Calibration) else None
    metrics = summarise(targets, outputs, probabilities, len(classes), known)
    metrics |= cell_figures(targets, outputs, probabilities, believed)
    said = {}
    if known is not None:
        metrics |= specimen_figures(specimens, targets, probabilities, believed)
        said["specimen_calls"] = calls_record(specimens, targets, probabilities, believed, classes)
    recall = recalls(confusion_counts(targets, outputs, len(classes))).tolist()
    strengths = by_group(fold.cells.intensities[test], targets, outputs, len(classes))
    return {
        "metrics": name_metrics(fold, "test", metrics),
        "recall": {k: None if np.isnan(v) else v for k, v in zip(classes, recall, strict=True)},
        "mistakes": mistakes_record(fold, probabilities),
        "calibration": as_record(calibration, classes),
        **said,
        **({"by_intensity": strengths} if strengths else {}),
    }
