"""Finished runs found and loaded, to name the patterns of other cells."""

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from hep2.checkpoints import read_checkpoint
from hep2.data.augment import turned
from hep2.data.inputs import view_of
from hep2.errors import HEp2Error
from hep2.rundir.directory import RunDir
from hep2.rundir.result import read_result
from hep2.tasks.classification import Classification
from hep2.tasks.reconstruction import Reconstruction


class Member(nn.Module):
    """The networks of one run.

    Args:
        encoder: gives latents.
        head: names patterns.
        decoder: of the autoencoder that has this encoder; None where it is not known.
        limit: the 99th percentile of the autoencoder's error on cells it had not learned from.
        view: of the cells that the networks see, a name of `hep2.data.views`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        decoder: nn.Module | None,
        limit: float,
        view: str = "intensity",
    ) -> None:
        super().__init__()
        self.view = view_of(view)
        self.encoder, self.head, self.decoder, self.limit = encoder, head, decoder, limit

    def forward(self, image: Tensor, orientations: int) -> tuple[Tensor, Tensor]:
        """Name cells.

        Args:
            image: shape (B, 1, H, W), in [0, 1].
            orientations: over how many flips and quarter turns probabilities are averaged, 1 to 8.

        Returns:
            Probabilities, shape (B, classes), float64; novelty, the reconstruction error over its
            limit, shape (B,), NaN where no autoencoder is known.
        """
        seen = self.view(image)
        latent = self.encoder(seen)
        total = self.head(latent).double().softmax(dim=1)
        for turn in range(1, orientations):
            total = total + self.head(self.encoder(turned(seen, turn))).double().softmax(dim=1)
        if self.decoder is None:
            return total / orientations, torch.full_like(total[:, 0], torch.nan)
        error = (self.decoder(latent) - seen).double().square().mean(dim=(1, 2, 3))
        return total / orientations, error / self.limit


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


log = logging.getLogger(__name__)

PREDICTS = "prediction needs a run whose checkpoint holds an encoder and a head"


@dataclass(frozen=True)
class Ensemble:
    """The runs of one method: one fold, or all of them.

    Attributes:
        network: names patterns.
        runs: their directories.
        judges: whether all of them can tell how strange a cell is.
        classes: pattern names.
        image_size: side of the images they take, pixels.
        channel: of colour images.
        data: the data set they learned from.
        synthetic: whether its cells were simulated.
    """

    network: Members
    runs: tuple[Path, ...]
    judges: bool
    classes: tuple[str, ...]
    image_size: int
    channel: str
    data: str
    synthetic: bool


def load_ensemble(run: str | None, runs_dir: Path) -> Ensemble:
    """Load the finished runs that `run` means, which must be of one method.

    Args:
        run: a directory (a single run, or a method's with its folds below), or the name of runs.
        runs_dir: where names are looked up.

    Raises:
        HEp2Error: nothing finished is there, the runs are of several methods, or one cannot name
            patterns of images by itself.
    """
    if run is None:
        raise HEp2Error("which run? run=<name or directory>, e.g. run=default")
    root = Path(run) if Path(run).is_dir() else runs_dir / run
    found = {path: result for path, result in _finished(root) if "recall" in result}
    if not found:
        raise HEp2Error(
            f"{root} holds no finished run that classifies: give a directory of runs, or a name "
            f"below {runs_dir}"
        )
    methods = {path.parents[1] for path in found}
    if len(methods) > 1:
        listed = "\n".join(f"  run={path}" for path in sorted(methods))
        raise HEp2Error(f"{root} holds runs of several methods, choose one:\n{listed}")
    results = list(found.values())
    for key in ("classes", "data_key"):
        if any(result.get(key) != results[0].get(key) for result in results):
            raise HEp2Error(f"the runs below {root} differ in {key}: choose one fold of them")
    first, config = results[0], OmegaConf.load(RunDir(next(iter(found))).config)
    members = [_member(path, result) for path, result in found.items()]
    judges = all(member.decoder is not None for member in members)
    if not judges:
        log.warning("no autoencoder beside %s: strange cells are not recognised", root)
    return Ensemble(
        network=Members(members).eval().requires_grad_(False),
        runs=tuple(found),
        judges=judges,
        classes=tuple(map(str, first["classes"])),
        image_size=int(config.data.image_size),
        channel=str(config.data.channel),
        data=str(first["data"]),
        synthetic=bool(first["synthetic"]),
    )


def _finished(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Directories and results of the finished runs at or below a directory."""
    files = [RunDir(root).result] if RunDir(root).finished else sorted(root.rglob("result.json"))
    for file in files:
        yield file.parent, read_result(file)


def _member(path: Path, result: dict[str, Any]) -> Member:
    file = _checkpoint(path, result)
    if not file.is_file():
        raise HEp2Error(f"{PREDICTS}, but there is no {file}")
    content = read_checkpoint(file)
    settings = content["hyper_parameters"]
    if settings.get("architecture") is None or "head" not in settings:
        raise HEp2Error(f"{PREDICTS}, but {file} has features that none of its networks makes")
    task = _loaded(Classification, content, file)
    decoder, limit = _decoder(path, task.encoder)
    return Member(task.encoder, task.head, decoder, limit, settings.get("view", "intensity"))


def _checkpoint(path: Path, result: dict[str, Any]) -> Path:
    """The weights that the run was tested with: the best epoch's where validation could choose."""
    return RunDir(path).last if result.get("validation") else RunDir(path).best


def _loaded(kind: Any, content: dict[str, Any], file: Path) -> Any:
    try:
        task = kind(**content["hyper_parameters"])
        task.load_state_dict(content["state_dict"], strict=True)
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise HEp2Error(f"{file} does not fit its own network: {reason}") from error
    return task


def _decoder(path: Path, encoder: nn.Module) -> tuple[nn.Module | None, float]:
    """Decoder and limit of the finished autoencoder, of this fold and seed, with this encoder."""
    protocol, fold, seed = path.parents[2], path.parent.name, path.name
    for file in sorted(protocol.glob(f"*/{fold}/{seed}/result.json")):
        for directory, result in _finished(file.parent):
            limit = result.get("novelty", {}).get("mse")
            checkpoint = _checkpoint(directory, result)
            if not isinstance(limit, float) or limit <= 0 or not checkpoint.is_file():
                continue
            content = read_checkpoint(checkpoint)
            if _same_encoder(content["state_dict"], encoder):
                return _loaded(Reconstruction, content, checkpoint).decoder, limit
    return None, math.nan


def _same_encoder(weights: dict[str, Tensor], encoder: nn.Module) -> bool:
    ours = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    theirs = {key: value for key, value in weights.items() if key.startswith("encoder.")}
    return ours.keys() == theirs.keys() and all(
        torch.equal(value, theirs[key]) for key, value in ours.items()
    )


def check_orientations(orientations: int) -> None:
    """Raise HEp2Error where there are not so many flips and quarter turns of a square."""
    if orientations not in range(1, 9):
        raise HEp2Error(f"orientations={orientations} must be a number from 1 to 8")
