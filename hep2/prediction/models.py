"""Finished runs found and loaded as one network, to name the patterns of other cells."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from hep2.checkpoints import read_checkpoint
from hep2.data.augment import check_orientations, oriented
from hep2.data.inputs import view_of
from hep2.errors import HEp2Error
from hep2.rundir.directory import RunDir
from hep2.rundir.result import read_result
from hep2.tasks.classification import Classification
from hep2.tasks.reconstruction import Reconstruction

log = logging.getLogger(__name__)

Result = dict[str, Any]  # of result.json

PREDICTS = "prediction needs a run whose checkpoint holds an encoder and a head"


class Member(nn.Module):
    """The networks of one run.

    Args:
        task: encoder and head.
        decoder: of the autoencoder that has this encoder; None where it is not known.
        limit: the 99th percentile of the autoencoder's error on cells it had not learned from.
    """

    def __init__(self, task: Classification, decoder: nn.Module | None, limit: float) -> None:
        super().__init__()
        assert task.encoder is not None, "a head alone takes features"
        self.encoder, self.head, self.decoder, self.limit = task.encoder, task.head, decoder, limit
        self.view = view_of(task.hparams["view"])

    def forward(self, image: Tensor, orientations: int) -> tuple[Tensor, Tensor]:
        """Name cells.

        Args:
            image: shape (B, 1, H, W), in [0, 1].
            orientations: over how many flips and quarter turns features are averaged, 1 to 8, as
                those of test cells are (`hep2.features.extraction`).

        Returns:
            Probabilities, shape (B, classes), float64; novelty, the reconstruction error of the
            cell as it is over its limit, shape (B,), NaN where no autoencoder is known.
        """
        seen = self.view(image)
        turned = [self.encoder(oriented(seen, turn)) for turn in range(orientations)]
        logits = self.head(torch.stack(turned, dim=1).mean(dim=1))
        probabilities = logits.double().softmax(dim=1)
        if self.decoder is None:
            return probabilities, torch.full_like(probabilities[:, 0], torch.nan)
        error = (self.decoder(turned[0]) - seen).double().square().mean(dim=(1, 2, 3))
        return probabilities, error / self.limit


class Members(nn.Module):
    """One run or several: means of their probabilities and novelties."""

    def __init__(self, members: Iterable[Member]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, image: Tensor, orientations: int = 1) -> tuple[Tensor, Tensor]:
        """As of `Member`."""
        outcomes = [member(image, orientations) for member in self.members]
        probabilities, novelties = zip(*outcomes, strict=True)
        return torch.stack(probabilities).mean(dim=0), torch.stack(novelties).mean(dim=0)


@dataclass(frozen=True)
class Ensemble:
    """The runs of one method: one fold, or all of them."""

    network: Members  # names patterns
    runs: tuple[Path, ...]  # their directories
    orientations: int  # to name each cell in
    judges: bool  # whether all of them can tell how strange a cell is
    classes: tuple[str, ...]  # pattern names
    image_size: int  # side of the images they take, pixels
    channel: str  # of colour images
    data: str  # the data set they learned from
    synthetic: bool  # whether its cells were simulated


def load_ensemble(run: str | None, runs_dir: Path, orientations: int | None = None) -> Ensemble:
    """Load the finished runs that `run` means, which must be of one method.

    Args:
        run: a directory (a single run, or a method's with its folds below), or the name of runs.
        runs_dir: where names are looked up.
        orientations: to name each cell in, 1 to 8; None: as many as the runs were tested with.

    Raises:
        HEp2Error: nothing finished is there, the runs are of several methods, one cannot name
            patterns of images by itself, or `orientations` is not a number from 1 to 8.
    """
    if orientations is not None:
        check_orientations(orientations)
    if run is None:
        raise HEp2Error("which run? run=<name or directory>, e.g. run=default")
    root = Path(run) if Path(run).is_dir() else runs_dir / run
    found = _of_one_method(root, runs_dir)
    tasks = {path: _classifier(path, result) for path, result in found.items()}
    members = [Member(task, *_decoder(path, task)) for path, task in tasks.items()]
    judges = all(member.decoder is not None for member in members)
    if not judges:
        log.warning("no autoencoder beside %s: strange cells are not recognised", root)
    path, result = next(iter(found.items()))
    config = OmegaConf.load(RunDir(path).config)
    return Ensemble(
        network=Members(members).eval().requires_grad_(False),
        runs=tuple(found),
        orientations=orientations or _tested_with(tasks.values()),
        judges=judges,
        classes=tuple(map(str, result["classes"])),
        image_size=int(config.data.image_size),
        channel=str(config.data.channel),
        data=str(result["data"]),
        synthetic=bool(result["synthetic"]),
    )


def _of_one_method(root: Path, runs_dir: Path) -> dict[Path, Result]:
    """Results of the finished runs at or below a directory that classify, by their directories."""
    files = [RunDir(root).result] if RunDir(root).finished else sorted(root.rglob("result.json"))
    found = {file.parent: result for file in files if "recall" in (result := read_result(file))}
    if not found:
        raise HEp2Error(
            f"{root} holds no finished run that classifies: give a directory of runs, or a name "
            f"below {runs_dir}"
        )
    methods = {path.parents[1] for path in found}
    if len(methods) > 1:
        listed = "\n".join(f"  run={path}" for path in sorted(methods))
        raise HEp2Error(f"{root} holds runs of several methods, choose one:\n{listed}")
    first, *others = found.values()
    for key in ("classes", "data_key"):
        if any(other.get(key) != first.get(key) for other in others):
            raise HEp2Error(f"the runs below {root} differ in {key}: choose one fold of them")
    return found


def _classifier(path: Path, result: Result) -> Classification:
    file = _weights(path, result)
    if not file.is_file():
        raise HEp2Error(f"{PREDICTS}, but there is no {file}")
    content = read_checkpoint(file)
    settings = content["hyper_parameters"]
    if settings.get("architecture") is None or "head" not in settings:
        raise HEp2Error(f"{PREDICTS}, but {file} has features that none of its networks makes")
    task: Classification = _loaded(Classification, content, file)
    return task


def _weights(path: Path, result: Result) -> Path:
    """What the run was tested with: the best epoch where validation could choose."""
    return RunDir(path).last if result.get("validation") else RunDir(path).best


def _loaded(kind: Any, content: dict[str, Any], file: Path) -> Any:
    try:
        task = kind(**content["hyper_parameters"])
        task.load_state_dict(content["state_dict"], strict=True)
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise HEp2Error(f"{file} does not fit its own network: {reason}") from error
    return task


def _decoder(path: Path, task: Classification) -> tuple[nn.Module | None, float]:
    """Decoder and limit of the finished autoencoder, of this fold and seed, with this encoder."""
    ours = {k: v for k, v in task.state_dict().items() if k.startswith("encoder.")}
    for file in sorted(path.parents[2].glob(f"*/{path.parent.name}/{path.name}/result.json")):
        result = read_result(file)
        limit = result.get("novelty", {}).get("mse")
        weights = _weights(file.parent, result)
        if not isinstance(limit, float) or limit <= 0 or not weights.is_file():
            continue
        content = read_checkpoint(weights)
        theirs = {k: v for k, v in content["state_dict"].items() if k.startswith("encoder.")}
        same = ours.keys() == theirs.keys()
        if same and all(torch.equal(value, theirs[key]) for key, value in ours.items()):
            return _loaded(Reconstruction, content, weights).decoder, limit
    return None, math.nan


def _tested_with(tasks: Iterable[Classification]) -> int:
    """In how many orientations these runs saw their test cells."""
    first, *others = (task.hparams["test_orientations"] for task in tasks)
    if any(other != first for other in others):
        raise HEp2Error(
            "the runs were tested in different numbers of orientations: give orientations=<1 to 8>"
        )
    check_orientations(first)
    return int(first)
