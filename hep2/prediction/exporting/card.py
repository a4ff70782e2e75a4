"""The model card: what a model learned from, how it was tested, what it must not be used for.

Nothing in it is written by hand but what holds for any run: figures, cells and specimens come from
each run's result.json and predictions.csv, as a report's do. Commands and names of cells or
specimens are left out: they may be nobody else's business.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from hep2 import __version__
from hep2.errors import HEp2Error
from hep2.evaluation import provenance, tables
from hep2.evaluation.formats import (
    NOTHING,
    Table,
    caption,
    interval_text,
    render,
    spread_text,
)
from hep2.evaluation.page import protocol_words
from hep2.evaluation.plots.confusion import confusion_picture
from hep2.evaluation.published import CITATION
from hep2.evaluation.results import NO_INTERVAL, Result, group_runs, summarise_group
from hep2.evaluation.specimens import answers_of
from hep2.metrics import HEADLINE, SECONDARY
from hep2.prediction.exporting.model import Card
from hep2.prediction.exporting.traced import description, framing
from hep2.prediction.models import Ensemble
from hep2.rundir.artifacts import audit_of
from hep2.rundir.result import Run, data_label, protocol_label, read_run

AUTHORS = ("The hep2 developers",)


class Figure(NamedTuple):
    """A row of the card's table."""

    name: str  # in result.json
    title: str
    scale: int  # 100: in per cent


CALLED = "specimen_accuracy"
FIGURES = [
    *(Figure(metric.name, metric.title, metric.scale) for metric in (*HEADLINE, *SECONDARY)),
    Figure("ece_calibrated", "ECE after calibration", 1),
    Figure("brier", "Brier score", 1),
    Figure("brier_calibrated", "Brier score after calibration", 1),
    Figure(CALLED, "specimens named rightly, by mean probability", 100),
]


@dataclass(frozen=True)
class Terms:
    """Who hands a model on, and under which licence (an SPDX identifier); None: as by default."""

    authors: tuple[str, ...] | None = None
    license: str | None = None


def make_card(ensemble: Ensemble, terms: Terms, format: str) -> Card:
    """The card of an ensemble from the results of its runs, for a format, "bioimageio" or "hub".

    Raises:
        HEp2Error: a run is damaged, or the licence is for its user to say.
    """
    (group,) = group_runs([read_run(path) for path in ensemble.runs])
    result, run = summarise_group(group), group.first
    license = terms.license or ("MIT" if run.synthetic else None)
    if license is None:
        raise HEp2Error(
            f"the terms of {run.data} may bind what was learned from it: say under which licence "
            "the model is handed on, license=<SPDX identifier>, e.g. license=CC-BY-NC-4.0"
        )
    said: dict[str, Any] = {
        "name": run.method,
        "classes": ensemble.classes,
        "authors": terms.authors or AUTHORS,
        "license": license,
        "warnings": tuple(_warnings(run)),
    }
    text = render(
        "card.md.j2",
        **said,
        format=format,
        ensemble=ensemble,
        leaky=run.leaky,
        data=data_label(run),
        protocol=protocol_label(run),
        words=protocol_words(run),
        sides=_sides(group.runs),
        figures=_figures_table(result),
        recalls=tables.recalls([result]),
        origins=provenance.origins(group.runs),
        framing=framing(ensemble),
        preprocessing=description(ensemble)["preprocessing"],
        citation=CITATION,
        version=__version__,
    )
    front = _front_matter(result, license) if format == "hub" else ""
    return Card(**said, text=front + text, picture=confusion_picture(result).png)


def _front_matter(result: Result, license: str) -> str:
    """What the hub's machines read: https://huggingface.co/docs/hub/model-cards."""
    run = result.group.first
    means = {metric.name: result.measures[metric.name].mean for metric in HEADLINE}
    metrics = [
        {"type": name, "value": round(mean, 4), "name": f"{name}, protocol {protocol_label(run)}"}
        for name, mean in means.items()
        if not math.isnan(mean)
    ]
    scored = {
        "task": {"type": "image-classification"},
        "dataset": {"type": data_label(run), "name": data_label(run)},
        "metrics": metrics,
    }
    front = {
        "license": license.lower(),
        "library_name": "hep2",
        "pipeline_tag": "image-classification",
        "tags": ["hep-2", "immunofluorescence", "cells", "microscopy", "onnx"],
        "model-index": [{"name": run.method, "results": [scored]}],
    }
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n"


def _warnings(run: Run) -> list[str]:
    """What a reader must know before any figure."""
    found = []
    if run.leaky:
        found.append(
            f"LEAKY PROTOCOL ({protocol_label(run)}): cells of one specimen may stand on both "
            "sides of the split. The figures tell how well known specimens are recognised again, "
            "not how well new ones are diagnosed."
        )
    if run.synthetic:
        found.append(
            "SIMULATED CELLS: it learned from simulated cells and was tested on such. Nothing here "
            "says how well it works on real ones."
        )
    return found


def _sides(runs: Sequence[Run]) -> Table:
    """How many cells and specimens each run learned from and was tested on, and what they share."""

    def shared(run: Run, name: str) -> str:
        count = (audit_of(run) or {}).get(name)
        return NOTHING if count is None else str(count)

    return Table.of(
        caption(runs[0], "what stood on each side of the split"),
        runs,
        {
            "fold": lambda run: str(run.fold),
            "seed": lambda run: str(run.seed),
            "cells learned from": lambda run: _count(run, "cells", "train"),
            "of specimens": lambda run: _count(run, "specimens", "train"),
            "cells to choose epochs": lambda run: _count(run, "cells", "val"),
            "test cells": lambda run: _count(run, "cells", "test"),
            "of test specimens": lambda run: _count(run, "specimens", "test"),
            "specimens on both sides": lambda run: shared(run, "shared_specimens"),
            "identical cells": lambda run: shared(run, "identical_cells"),
            "look-alikes": lambda run: shared(run, "near_duplicate_cells"),
        },
    )


def _count(run: Run, what: str, part: str) -> str:
    """A number of cells or specimens; runs of earlier versions do not tell all of them."""
    counts = run.kept.get(what)
    count = counts.get(part) if isinstance(counts, dict) else None
    return NOTHING if count is None else str(count)


def _figures_table(result: Result) -> Table:
    """Every metric, a row each."""
    said = answers_of(result.group)

    def pooled(row: Figure) -> str:
        found = result.pooled.get(row.name, NO_INTERVAL)
        if row.name == CALLED and said:
            found = said.accuracy("mean")
        return NOTHING if math.isnan(found.estimate) else interval_text(found)

    return Table.of(
        caption(result.group.first, "figures of single runs on cells they had not seen"),
        FIGURES,
        {
            "metric": lambda row: f"{row.title}{' %' if row.scale == 100 else ''}",
            "mean ± standard deviation over folds": lambda row: spread_text(
                result.measure(row.name), row.scale
            ),
            "all folds pooled [95 % interval over specimens]": pooled,
        },
        [*tables.folds_and_seeds(result), *tables.intervals(result)],
    )
