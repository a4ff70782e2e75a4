"""What one finished run has learned, read from its directory: cells to vectors, to patterns."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hep2.calls.calibration import Calibration
from hep2.calls.record import from_record
from hep2.calls.temperature import SMALLEST
from hep2.data.views import check_orientations
from hep2.errors import HEp2Error
from hep2.features.kept import Kept, read_kept
from hep2.features.transforms import Encoding, Representation
from hep2.heads.estimator import Estimator
from hep2.nets.architectures import ENCODERS, build, encoder_and_head, load_weights, read_checkpoint
from hep2.prediction.judge import Judge, Result, judge_of, weights_of
from hep2.rundir.directory import RunDir, damaged
from hep2.rundir.result import read_result

MEMBER = re.compile(r"\w[\w.+=,-]*/fold\d+/seed\d+")  # of an ensemble, as its result names it


class NetworkHead(nn.Module):
    """Vectors, (B, D), to probabilities, float64, (B, classes): the softmax of a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, vectors: Tensor) -> Tensor:
        """Name patterns."""
        logits: Tensor = self.network(vectors)
        return logits.double().softmax(dim=1)


class EstimatorHead(nn.Module):
    """The same of a head that is not a network."""

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.estimator = estimator

    def forward(self, vectors: Tensor) -> Tensor:
        """Name patterns."""
        return torch.from_numpy(self.estimator.probabilities(vectors.numpy())).double()


class Member(nn.Module):
    """One method of one fold: a representation, a head on it and, where one is known, a judge."""

    def __init__(
        self, representation: Representation, head: NetworkHead | EstimatorHead, judge: Judge | None
    ) -> None:
        super().__init__()
        self.representation, self.head, self.judge = representation, head, judge

    @property
    def of_networks(self) -> bool:
        """Whether torch alone computes it."""
        parts = self.representation.transforms
        return isinstance(self.head, NetworkHead) and all(isinstance(p, Encoding) for p in parts)

    def forward(
        self, image: Tensor, orientations: int | None = None, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Probabilities, float64, and novelty, NaN where there is no judge.

        `orientations` and `masks` as of `Representation`; a judge takes the cell as it is.

        Shape:
            (B, 1, H, W), in [0, 1], (B, 1, H, W) -> (B, classes), (B,)
        """
        probabilities: Tensor = self.head(self.representation(image, orientations, masks))
        if self.judge is None:
            return probabilities, torch.full_like(probabilities[:, 0], torch.nan)
        return probabilities, self.judge(image)


class OneRun(nn.Module):
    """One run that classifies: the mean of its members; all but ensembles have one.

    `calibration` is the run's: its probabilities are then at that temperature, as
    `hep2.calls.temperature.tempered` has them. Members of an ensemble have none: it averages what
    they say, and has learned a temperature for the mean.
    """

    def __init__(
        self, parts: list["Member | OneRun"], calibration: Calibration | None = None
    ) -> None:
        super().__init__()
        self.parts, self.calibration = nn.ModuleList(parts), calibration

    def forward(
        self, image: Tensor, orientations: int | None = None, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As of `Member`."""
        probabilities, novelty = mean_of(self.parts, image, orientations, masks)
        if self.calibration is None:
            return probabilities, novelty
        scores = probabilities.clamp(SMALLEST, 1).log() / self.calibration.temperature
        return scores.softmax(dim=1), novelty


def members_of(network: nn.Module) -> list[Member]:
    """All members of a run, or of several, those of ensembles among them as well."""
    return [part for part in network.modules() if isinstance(part, Member)]


def mean_of(
    parts: nn.ModuleList, image: Tensor, orientations: int | None, masks: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Means of probabilities and novelties."""
    made = [part(image, orientations, masks) for part in parts]
    probabilities, novelties = zip(*made, strict=True)
    return torch.stack(probabilities).mean(dim=0), torch.stack(novelties).mean(dim=0)


def read_one_run(path: Path, result: Result, within: tuple[Path, ...] = ()) -> OneRun:
    """What a finished run says of cells: itself, or the members that its result names.

    Raises:
        HEp2Error: it has not kept what it learned, or a file is damaged or foreign.
    """
    if (names := result.get("members")) is None:
        return OneRun([_member(path, result)], None if within else _calibration(path, result))
    beside, file = path.parents[2], RunDir(path).result
    if not isinstance(names, list) or not all(MEMBER.fullmatch(str(name)) for name in names):
        raise damaged(file, f"key members is {names!r}")
    parts = list[Member | OneRun]()
    for member in [beside / name for name in names]:
        if member in (*within, path):
            raise damaged(file, f"{member} is a member of itself")
        if not RunDir(member).finished:
            raise HEp2Error(f"{path} is an ensemble, and its member {member} is not there")
        other = read_result(RunDir(member).result)
        parts.append(read_one_run(member, other, (*within, path)))
    return OneRun(parts, None if within else _calibration(path, result))


def _calibration(path: Path, result: Result) -> Calibration | None:
    """How far its probabilities can be believed; None where nothing was calibrated."""
    try:
        return from_record(result.get("calibration"), result["classes"])
    except HEp2Error as error:
        raise damaged(RunDir(path).result, str(error)) from error


def _member(path: Path, result: Result) -> Member:
    """What one run has learned itself."""
    representation, head = _vectors_and_head(path, result)
    if head is None:
        raise _nothing_kept(path)
    check_orientations(representation.orientations)
    member = Member(representation, head, judge_of(path, representation))
    _try(member, path, len(result["classes"]))
    return member


def read_representation(path: Path, result: Result) -> Representation:
    """What a finished run, of any kind but an ensemble, makes of cells: vectors.

    Raises:
        HEp2Error: it has not kept it, or is an ensemble, or a file is damaged or foreign.
    """
    if (names := result.get("members")) is not None:
        raise HEp2Error(
            f"{path} is an ensemble, which has no vectors of its own: choose one of its members "
            f"beside it, {', '.join(map(str, names))}"
        )
    return _vectors_and_head(path, result)[0]


def _vectors_and_head(
    path: Path, result: Result
) -> tuple[Representation, NetworkHead | EstimatorHead | None]:
    """From what was kept beside the networks, and from the checkpoint for the rest."""
    run, file = RunDir(path), weights_of(path, result)
    kept = read_kept(run.fitted) if run.fitted.is_file() else None
    if kept:
        _check_belongs(kept, run, result)
        if kept.estimator:
            return kept.representation, EstimatorHead(kept.estimator)
    if not file.is_file():
        raise _nothing_kept(path)
    content = read_checkpoint(file)
    settings = content["hyper_parameters"]
    if "head" not in settings:  # an autoencoder, or clusters
        return _encoding_alone(file, content), None
    if "test_orientations" in settings:  # its name in earlier versions
        settings["orientations"] = settings.pop("test_orientations")
    try:
        made_by = {key: settings[key] for key in ("architecture", "network")}
        encoder, network = encoder_and_head(
            **made_by, head=settings["head"], classes=len(result["classes"])
        )
    except (KeyError, TypeError) as error:
        raise HEp2Error(f"{file} does not fit its own network: {error}") from error
    load_weights(network, content, "head", file)
    head = NetworkHead(network.eval())
    if kept:
        return kept.representation, head
    if encoder is None:
        raise _nothing_kept(path)
    load_weights(encoder, content, "encoder", file)
    encoding = Encoding(encoder.eval(), settings.get("view", "intensity"), made_by)
    return Representation([encoding], settings.get("orientations", 1)), head


def _encoding_alone(file: Path, content: dict[str, Any]) -> Representation:
    """The encoder of a checkpoint that has no head."""
    settings = content["hyper_parameters"]
    try:
        made_by = {key: settings[key] for key in ("architecture", "network")}
        encoder = build(ENCODERS, made_by["architecture"], **made_by["network"])
    except (KeyError, TypeError) as error:
        raise HEp2Error(f"{file} holds no encoder of hep2: it lacks {error}") from error
    load_weights(encoder, content, "encoder", file)
    return Representation([Encoding(encoder, settings.get("view", "intensity"), made_by)], 1)


def _nothing_kept(path: Path) -> HEp2Error:
    return HEp2Error(
        f"{path} has not kept what it has learned, as runs of earlier versions have not: "
        "train it again with overwrite=true"
    )


def _check_belongs(kept: Kept, run: RunDir, result: Result) -> None:
    """What was fitted to cells of another split would be another run's."""
    said = {"data": result.get("data_key"), "split": result.get("split_hash"),
            "fold": result.get("fold"), "seed": result.get("seed")}  # fmt: skip
    if wrong := [key for key, value in said.items() if kept.provenance.get(key) != value]:
        raise damaged(run.fitted, f"it is of another run, by its {', '.join(wrong)}")


def _try(member: Member, path: Path, classes: int) -> None:
    """One image of noise: files that were changed fail here, and not among a user's cells."""
    side = int(RunDir(path).stored()["data"]["image_size"])
    noise = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    try:
        with torch.inference_mode():
            made = member(noise, 1)[0]
        if made.shape != (1, classes) or not torch.isfinite(made).all():
            raise ValueError(f"it gives {tuple(made.shape)} for one cell of {classes} patterns")
    except HEp2Error:
        raise
    except Exception as error:  # foreign values fail in a dozen ways
        raise HEp2Error(
            f"what {path} has kept does not fit together ({type(error).__name__}: {error}): "
            "train it again with overwrite=true"
        ) from error
