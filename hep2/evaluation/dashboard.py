"""What a finished run shows on a dashboard: its predictions, and the report's pictures of it."""

import csv
from dataclasses import dataclass
from pathlib import Path

from hep2.evaluation.drawing import Picture
from hep2.evaluation.groups import Group
from hep2.evaluation.page import encoder_pictures, method_shown
from hep2.evaluation.results import summarise_group
from hep2.evaluation.runs import read_run
from hep2.evaluation.training_plots import learning_curves


@dataclass(frozen=True)
class RunRecord:
    """Pictures of one run, and the rows of its predictions.csv."""

    pictures: list[Picture]
    columns: list[str]
    rows: list[list[str]]


def record_of(path: Path) -> RunRecord:
    """Read a finished run and draw it.

    Raises:
        HEp2Error: the run is damaged.
    """
    run = read_run(path)
    pictures = encoder_pictures([run])
    if run.predictions is not None:
        pictures += method_shown(summarise_group(Group((run,)))).pictures
    curves = learning_curves([run])
    file = path / "predictions.csv"
    columns, rows = [], []
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as opened:
            columns, *rows = csv.reader(opened)
    return RunRecord([*pictures, *([curves] if curves else [])], columns, rows)
