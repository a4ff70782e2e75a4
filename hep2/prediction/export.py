"""Finished runs handed on: a file or folder that other programs run, checked before it is kept."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from hep2.errors import HEp2Error, one_of
from hep2.files import write_atomic
from hep2.prediction.exporting.bioimageio import write_bioimageio
from hep2.prediction.exporting.card import Terms, make_card
from hep2.prediction.exporting.hub import may_write, write_hub
from hep2.prediction.exporting.onnx import write_onnx
from hep2.prediction.exporting.pt2 import write_pt2
from hep2.prediction.exporting.runs import SUFFIX, write_runs
from hep2.prediction.exporting.traced import trace, trial_cells
from hep2.prediction.loaded import load_exported
from hep2.prediction.member import members_of
from hep2.prediction.models import Ensemble, load_ensemble
from hep2.rundir.directory import RunDir
from hep2.rundir.result import read_result

TOLERANCE = 1e-5  # greatest difference of a probability between what was written and the original
# Empty: a folder.
SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "bioimageio": ".zip", "hub": "", "hep2": SUFFIX}
_PLAIN = {"onnx": write_onnx, "pt2": write_pt2}
_WITH_CARD = {"bioimageio": write_bioimageio, "hub": write_hub}


def export(
    run: str | None,
    runs_dir: Path,
    out: str | None,
    orientations: int | None,
    format: str | None = None,
    terms: Terms | None = None,
) -> tuple[Path, str]:
    """Write an ensemble and make sure that what is written gives the same probabilities.

    `format` is one of SUFFIXES, None: by the suffix of `out`, .onnx, .pt2 or .hep2, which holds any
    runs, for `hep2.load` and `task=predict`; the others hold networks alone. `terms` go into the
    card of bioimageio and hub; all else as of `load_ensemble`. Returns the file or folder, and what
    was checked, in a sentence.

    Raises:
        HEp2Error: an argument is wrong, a package is missing, or what was written gives other
            numbers.
    """
    target, format = _target(out, format)
    ensemble = load_ensemble(run, runs_dir, orientations)
    if ensemble.handed_on and format not in _PLAIN:
        raise HEp2Error(
            f"{run} was handed on as one file, and format={format} needs the directories of its "
            f"runs: export those, or choose {' or '.join(_PLAIN)}"
        )
    if format == "hep2":
        return target, _as_runs(ensemble, target, orientations)
    if not ensemble.of_networks:
        raise HEp2Error(
            f"{ensemble.runs[0]} is not made of networks alone, so other programs cannot run it: "
            f"out=model{SUFFIX} hands it on for hep2.load and task=predict"
        )
    # Before the minutes that tracing takes.
    card = make_card(ensemble, terms or Terms(), format) if format in _WITH_CARD else None
    traced = trace(ensemble)
    with TemporaryDirectory() as folder:
        made = Path(folder) / target.name
        if card is None:
            _PLAIN[format](made, traced)
        else:
            _WITH_CARD[format](made, traced, card)
        gap = float(np.abs(load_exported(made)(traced.cells) - traced.outputs[0]).max())
        if not gap <= TOLERANCE:
            raise HEp2Error(
                f"{target} was not written: its probabilities differ by {gap:.1e} from the "
                f"original's, more than {TOLERANCE:.0e}; try another format ({', '.join(SUFFIXES)})"
            )
        for file in [made] if made.is_file() else sorted(made.iterdir()):
            write_atomic(target / file.relative_to(made), file.read_bytes())
    runner = "torch.export's loader" if format == "pt2" else "ONNX Runtime"
    return target, (
        f"read back by {runner}: probabilities of {len(traced.cells)} simulated cells differ by at "
        f"most {gap:.1e} from the original's"
    )


def _as_runs(ensemble: Ensemble, target: Path, orientations: int | None) -> str:
    """Write the runs as they are; what was checked, in a sentence."""
    if orientations is not None:
        raise HEp2Error(
            f"orientations={orientations} cannot be kept in a {SUFFIX} file, which holds the runs "
            "as they are: say it where the file is put to use"
        )
    judges = [one.judge.run for one in members_of(ensemble.network) if one.judge is not None]
    with TemporaryDirectory() as folder:
        made = Path(folder) / target.name
        write_runs(made, ensemble.runs, [*_members(ensemble.runs), *judges])
        again = load_ensemble(str(made), Path(), ensemble.orientations)
        cells = torch.from_numpy(trial_cells(ensemble.image_size))
        with torch.inference_mode():
            both = [one.network(cells, ensemble.orientations)[0] for one in (ensemble, again)]
        if not torch.equal(*both):
            raise HEp2Error(f"{target} was not written: it gives other probabilities than the runs")
        write_atomic(target, made.read_bytes())
    return f"read back: probabilities of {len(cells)} simulated cells are the runs' to the last bit"


def _members(runs: Sequence[Path]) -> list[Path]:
    """The runs, beside them, that ensembles among them are made of."""
    named = [
        (run, name) for run in runs for name in read_result(RunDir(run).result).get("members") or []
    ]
    found = [run.parents[2] / name for run, name in named]
    return [*found, *(_members(found) if found else [])]


def _target(out: str | None, format: str | None) -> tuple[Path, str]:
    """Where to write, and in which format."""
    target = Path(out or "")
    if format is None:
        found = target.suffix.removeprefix(".")
        if found not in (*_PLAIN, "hep2"):
            raise HEp2Error(
                f"out={out} must name a file that ends in .onnx, .pt2 or .hep2; other formats are "
                "format=bioimageio, a .zip, and format=hub, a folder"
            )
        return target, found
    suffix = one_of("format", format, SUFFIXES)
    if out is None or (suffix and target.suffix != suffix):
        kind = f"a file that ends in {suffix}" if suffix else "a folder"
        raise HEp2Error(f"out={out} must name {kind} for format={format}")
    if not suffix and not may_write(target):
        raise HEp2Error(f"{target} holds other files: choose another out=, a new folder")
    return target, format
