"""Finished runs found and loaded as one network, to name the patterns of other cells."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from hep2.checkpoints import load_weights, read_checkpoint
from hep2.data.augment import check_orientations, oriented
from hep2.data.inputs import view_of
from hep2.errors import HEp2Error
from hep2.nets.architectures import DECODERS, build
from hep2.rundir.directory import RunDir
from hep2.rundir.result import read_result
from hep2.tasks.classification import Classification

log = logging.getLogger(__name__)

Result = dict[str, Any]  # of result.json
PREDICTS = "prediction needs a run whose checkpoint holds an encoder and a head"


class Member(nn.Module):
    """The networks of one run; the decoder is that of its encoder's autoencoder, if it is known.

    `limit` is the 99th percentile of the autoencoder's error on cells it had not learned from.
    """

    def __init__(self, task: Classification, decoder: nn.Module | None, limit: float) -> None:
        super().__init__()
        assert task.encoder is not None, "a head alone takes features"
        self.encoder, self.head, self.decoder, self.limit = task.encoder, task.head, decoder, limit
        self.view = view_of(task.hparams["view"])
        self.tested_with = task.hparams["orientations"]

    def forward(self, image: Tensor, orientations: int) -> tuple[Tensor, Tensor]:
        """Probabilities, float64, and novelty: the reconstruction error over its limit.

        Features are averaged over orientations as in `hep2.features.extraction`; the error is that
        of the cell as it is, NaN where no autoencoder is known.

        Shape:
            (B, 1, H, W), in [0, 1] -> (B, classes), (B,)
        """
        seen = self.view(image)
        turned = [self.encoder(oriented(seen, turn)) for turn in range(orientations)]
        logits = self.head(torch.stack(turned, dim=1).mean(dim=1))
        probabilities = logits.double().softmax(dim=1)
        if self.decoder is None:
            return probabilities, torch.full_like(probabilities[:, 0], torch.nan)
        error = (self.decoder(turned[0]) - seen).double().square().mean(dim=(1, 2, 3))
        return probabilities, error / self.limit


class Members(nn.ModuleList):
    """One run or several: means of their probabilities and novelties."""

    def forward(self, image: Tensor, orientations: int = 1) -> tuple[Tensor, Tensor]:
        """As of `Member`."""
        probabilities, novelties = zip(*(one(image, orientations) for one in self), strict=True)
        return torch.stack(probabilities).mean(dim=0), torch.stack(novelties).mean(dim=0)


@dataclass(frozen=True)
class Ensemble:
    """The runs of one method: one fold, or all of them."""

    network: Members  # names patterns
    runs: tuple[Path, ...]  # their directories
    orientations: int  # to average a cell's features over
    judges: bool  # whether all of them can tell how strange a cell is
    classes: tuple[str, ...]  # pattern names
    image_size: int  # side of the images they take, pixels
    channel: str  # of colour images
    page: int | None  # of TIFFs, from 0; None: the only one
    full_scale: int | None  # white in what they learned from, 255 for 8 bits; None: they do not say
    data: str  # the data set they learned from
    synthetic: bool  # whether its cells were simulated


def load_ensemble(run: str | None, runs_dir: Path, orientations: int | None = None) -> Ensemble:
    """Load the finished runs that `run` means, which must be of one method.

    `run` is a directory (a single run, or a method's with its folds below), or a name in
    `runs_dir`; `orientations` None means as many as the runs were tested with.

    Raises:
        HEp2Error: no finished run is there, they are of several methods, one of them cannot name
            patterns of images by itself, or `orientations` is not a number from 1 to 8.
    """
    if run is None:
        raise HEp2Error("which run? run=<name or directory>, e.g. run=default")
    root = Path(run) if Path(run).is_dir() else runs_dir / run
    found = _of_one_method(root, runs_dir)
    members = [_member(path, result) for path, result in found.items()]
    judges = all(member.decoder is not None for member in members)
    if not judges:
        log.warning("no autoencoder beside %s: strange cells are not recognised", root)
    turns = members[0].tested_with if orientations is None else orientations
    check_orientations(turns)
    if orientations is None and any(member.tested_with != turns for member in members):
        raise HEp2Error(
            "the runs were tested in different numbers of orientations: give orientations=<1 to 8>"
        )
    path, result = next(iter(found.items()))
    data = OmegaConf.load(RunDir(path).config).data
    return Ensemble(
        network=Members(members).eval().requires_grad_(False),
        runs=tuple(found),
        orientations=turns,
        judges=judges,
        classes=tuple(map(str, result["classes"])),
        image_size=int(data.image_size),
        channel=str(data.channel),
        page=data.get("page"),
        full_scale=result.get("full_scale"),
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


def _member(path: Path, result: Result) -> Member:
    """A run's networks; the decoder is that of the autoencoder, of its fold, with its encoder."""
    file = _weights(path, result)
    if not file.is_file():
        raise HEp2Error(f"{PREDICTS}, but there is no {file}")
    content = read_checkpoint(file)
    settings = content["hyper_parameters"]
    if "test_orientations" in settings:  # its name in earlier versions
        settings["orientations"] = settings.pop("test_orientations")
    if settings.get("architecture") is None or "head" not in settings:
        raise HEp2Error(f"{PREDICTS}, but {file} has features that none of its networks makes")
    try:
        task = Classification(**settings)
    except TypeError as error:
        raise HEp2Error(f"{file} does not fit its own network: {error}") from error
    load_weights(task, content, "", file)
    ours = _encoder(content)
    for other in sorted(path.parents[2].glob(f"*/{path.parent.name}/{path.name}/result.json")):
        result = read_result(other)
        file, limit = _weights(other.parent, result), result.get("novelty", {}).get("mse")
        if isinstance(limit, float) and limit > 0 and file.is_file():
            theirs = _encoder(content := read_checkpoint(file))
            if ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours):
                return Member(task, _decoder(file, content), limit)
    return Member(task, None, math.nan)


def _decoder(file: Path, content: dict[str, Any]) -> nn.Module:
    """The decoder of an autoencoder, whatever objective it has learned by."""
    settings = content["hyper_parameters"]
    decoder: nn.Module = build(DECODERS, settings["architecture"], **settings["network"])
    load_weights(decoder, content, "decoder", file)
    return decoder


def _weights(path: Path, result: Result) -> Path:
    """What the run was tested with: the best epoch where validation could choose."""
    return RunDir(path).last if result.get("validation") else RunDir(path).best


def _encoder(content: dict[str, Any]) -> dict[str, Tensor]:
    return {k: v for k, v in content["state_dict"].items() if k.startswith("encoder.")}
