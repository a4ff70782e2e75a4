"""Finished runs found and loaded, to name the patterns of other cells; their data sets as well."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor, nn

from hep2.calls.calibration import Calibration, together
from hep2.config import plain
from hep2.data.views import check_orientations
from hep2.errors import HEp2Error
from hep2.prediction.cells import CellBatch
from hep2.prediction.exporting.runs import SUFFIX, unpacked
from hep2.prediction.judge import Result
from hep2.prediction.member import mean_of, members_of, read_one_run
from hep2.rundir.directory import RunDir, damaged
from hep2.rundir.result import read_result

if TYPE_CHECKING:
    from hep2.data.fold import Fold

log = logging.getLogger(__name__)

SOURCE = re.compile(r"hep2\.data\.sources\.\w+")  # what a stored configuration may open
Outputs = tuple[NDArray[Any], NDArray[Any]]  # (n, classes), (n,)


class Runs(nn.ModuleList):
    """One run or several: means of their probabilities and novelties."""

    def forward(
        self, image: Tensor, orientations: int | None = None, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As of `Member`."""
        return mean_of(self, image, orientations, masks)


@dataclass(frozen=True)
class Ensemble:
    """The runs of one method: one fold, or all of them."""

    network: Runs  # names patterns
    runs: tuple[Path, ...]  # their directories
    # To average a cell's features over; None: as many as each member of an ensemble learned with.
    orientations: int | None
    judges: bool  # whether all of them can tell how strange a cell is
    of_networks: bool  # whether torch alone computes them, so that they can be exported
    masked: bool  # whether any has learned with masks, and takes them
    classes: tuple[str, ...]  # pattern names
    # Of the mean probabilities, which are scaled already; None where a run is not calibrated.
    calibration: Calibration | None
    image_size: int  # side of the images they take, pixels
    channel: str  # of colour images
    page: int | None  # of TIFFs, from 0; None: the only one
    full_scale: int | None  # white in what they learned from, 255 for 8 bits; None: they do not say
    data: str  # the data set they learned from
    synthetic: bool  # whether its cells were simulated

    @property
    def handed_on(self) -> bool:
        """Whether it came as one file, without the directories of its runs."""
        return not self.runs[0].is_dir()


def load_ensemble(run: str | None, runs_dir: Path, orientations: int | None = None) -> Ensemble:
    """Load the finished runs that `run` means, which must be of one method.

    `run` is a directory (a single run, or a method's with its folds below), a name in `runs_dir`,
    or a file that `hep2.prediction.exporting.runs` wrote; `orientations` None means as many as the
    runs were tested with.

    Raises:
        HEp2Error: no finished run is there, they are of several methods, one of them cannot name
            patterns of images by itself, or `orientations` is not a number from 1 to 8.
    """
    if run is not None and Path(run).suffix == SUFFIX:
        return _from_file(Path(run), orientations)
    found = find_runs(run, runs_dir)
    return _ensemble(found, orientations, tuple(found))


def _from_file(path: Path, orientations: int | None) -> Ensemble:
    """Of runs that were handed on as one file, by whose name they are then called."""
    with unpacked(path) as runs:
        found = {run: read_result(RunDir(run).result) for run in runs}
        called = tuple(path.joinpath(*run.parts[-3:]) for run in runs)
        return _ensemble(found, orientations, called)


def _ensemble(
    found: dict[Path, Result], orientations: int | None, called: tuple[Path, ...]
) -> Ensemble:
    network = Runs([read_one_run(path, result) for path, result in found.items()])
    members = members_of(network)
    judges = all(member.judge is not None for member in members)
    if not judges:
        log.warning("no autoencoder beside %s: strange cells are not recognised", called[0])
    turns = [{member.representation.orientations for member in members_of(run)} for run in network]
    if orientations is None and any(one != turns[0] for one in turns):
        raise HEp2Error(
            "the runs were tested in different numbers of orientations: give orientations=<1 to 8>"
        )
    if orientations is None and len(turns[0]) == 1:
        (orientations,) = turns[0]
    if orientations is not None:
        check_orientations(orientations)
    path, result = next(iter(found.items()))
    data = RunDir(path).stored()["data"]
    known = [run.calibration for run in network if isinstance(run.calibration, Calibration)]
    return Ensemble(
        network=network.eval().requires_grad_(False),
        runs=called,
        orientations=orientations,
        judges=judges,
        of_networks=all(member.of_networks for member in members),
        masked=any(member.representation.masked for member in members),
        classes=tuple(map(str, result["classes"])),
        calibration=together(known) if len(known) == len(found) else None,
        image_size=int(data["image_size"]),
        channel=str(data["channel"]),
        page=data.get("page"),
        full_scale=result.get("full_scale"),
        data=str(result["data"]),
        synthetic=bool(result["synthetic"]),
    )


def outputs_of(ensemble: Ensemble, batch: CellBatch) -> Outputs:
    """Probabilities (n, classes) and novelties (n,) of the n cells of a batch that can be used."""
    if not len(batch.image):  # not every network stands an empty batch
        return np.empty((0, len(ensemble.classes))), np.empty(0)
    with torch.inference_mode():
        made = ensemble.network(batch.image, ensemble.orientations, batch.masks)
    return made[0].numpy(), made[1].numpy()


def find_runs(run: str | None, runs_dir: Path, embed: bool = False) -> dict[Path, Result]:
    """Results of the finished runs that `run` means, by their directories, all of one method.

    They classify; to `embed` with, others will do where none does.

    Raises:
        HEp2Error: as of `load_ensemble`.
    """
    if run is None:
        raise HEp2Error("which run? run=<name or directory>, e.g. run=default")
    if Path(run).suffix == SUFFIX:
        raise HEp2Error(
            f"run={run} is for task=predict; its vectors: hep2.load({run!r}).embed(...)"
        )
    root = Path(run) if Path(run).is_dir() else runs_dir / run
    files = [RunDir(root).result] if RunDir(root).finished else sorted(root.rglob("result.json"))
    every = {file.parent: read_result(file) for file in files}
    found = {path: result for path, result in every.items() if "recall" in result}
    if not found and any(result.get("kind") == "clustering" for result in every.values()):
        what = "holds clusters, which have no patterns to name (task=embed gives their vectors)"
    else:
        what = "holds no finished run that classifies"
    if not (found := found or (every if embed else {})):
        raise HEp2Error(f"{root} {what}: give a directory of runs, or a name below {runs_dir}")
    methods = {path.parents[1] for path in found}
    if len(methods) > 1:
        listed = "\n".join(f"  run={path}" for path in sorted(methods))
        raise HEp2Error(f"{root} holds runs of several methods, choose one:\n{listed}")
    first, *others = found.values()
    for key in ("classes", "data_key"):
        if any(other.get(key) != first.get(key) for other in others):
            raise HEp2Error(f"the runs below {root} differ in {key}: choose one fold of them")
    return found


def opened_again(path: Path, result: dict[str, Any], every_label: bool = False) -> "Fold":
    """The cells and the split of a finished run, opened again from its configuration.

    Where it learned from few labels, `every_label` gives all training cells all the same.

    Raises:
        HEp2Error: it names no source of ours, or the data set is not what it was.
    """
    from hep2.data.fold import open_fold  # more packages than a prediction needs

    file = RunDir(path).config
    cfg: Any = OmegaConf.create(RunDir(path).stored())
    source = plain(cfg.data.source)
    target = source.get("_target_") if isinstance(source, dict) else source
    targets = [target, *re.findall("_target_", str(plain(cfg.data)))[1:]]
    if len(targets) > 1 or not SOURCE.fullmatch(str(targets[0])):
        raise damaged(file, f"data.source is {str(targets[0])!r}, none of hep2.data.sources")
    if every_label:
        cfg.protocol.labelled = None  # which takes labels away, and no cell
    fold = open_fold(cfg)
    if fold.cells.key != result.get("data_key"):
        raise HEp2Error(
            f"the data set of {path} is not what it was: name its cells by images=, or train again"
        )
    return fold
