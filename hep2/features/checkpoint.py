"""The fold's encoder: loaded whole, from a checkpoint of this very fold, or not at all."""

import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hep2.errors import HEp2Error
from hep2.nets.architectures import ENCODERS, build


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint by the safe loader, which can run no code.

    Raises:
        HEp2Error: the file is missing, damaged, or holds more than plain data.
    """
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise HEp2Error(f"there is no checkpoint {path}") from error
    except Exception as error:  # torch's reader fails in a dozen ways on what is no checkpoint
        raise HEp2Error(
            f"{path} is damaged or no checkpoint of hep2 ({type(error).__name__}): "
            "delete its folder and train again"
        ) from error
    parts = ("state_dict", "hyper_parameters")
    if not isinstance(content, dict) or any(not isinstance(content.get(p), dict) for p in parts):
        raise HEp2Error(f"{path} is no checkpoint of hep2: it lacks weights or hyper-parameters")
    return content


def _check_archive(path: Path) -> None:
    """Test what torch's reader does not: that no byte changed, and that nothing is inflated.

    torch writes a zip archive whose parts are not compressed, and does not compare their checksums
    when it reads them: a flipped bit would be a changed weight. An archive of another form could
    unfold to any size.

    Raises:
        BadZipFile: no archive, or damaged.
        ValueError: not as torch writes it.
    """
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("compressed")
        if any(part.external_attr for part in parts):  # "a folder": torch would not read it at all
            raise ValueError("foreign attributes")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("larger inside than outside")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"{damaged} is damaged")


@dataclass(frozen=True)
class EncoderCheckpoint:
    """What a later stage needs to know of a trained autoencoder."""

    path: Path
    architecture: str
    network: dict[str, Any]
    view: str  # of the cells: "intensity" or "gradient"
    learned_with_labels: bool
    state: dict[str, Tensor]  # keys begin with the part: "encoder." or "decoder."

    def weights(self, part: str = "encoder") -> dict[str, Tensor]:
        """Weights and buffers of a part, under the names that they have in it."""
        prefix = f"{part}."
        return {
            key.removeprefix(prefix): value
            for key, value in self.state.items()
            if key.startswith(prefix)
        }

    def load_into(self, network: nn.Module, part: str = "encoder") -> None:
        """Copy the weights and buffers of a part, all of them or none.

        Raises:
            HEp2Error: keys or shapes differ; the message names them.
        """
        try:
            network.load_state_dict(self.weights(part), strict=True)
        except (RuntimeError, AttributeError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise HEp2Error(f"{self.path} does not fit its own network: {reason}") from error


def read_encoder(path: Path, expected: Mapping[str, str | int], remedy: str) -> EncoderCheckpoint:
    """Read an encoder and refuse one that was trained on other cells than `expected`.

    An encoder of another fold has seen this fold's test specimens.

    Args:
        path: a checkpoint of stage 1.
        expected: the provenance that this fold asks for.
        remedy: the command that trains the right encoder, for the message.

    Raises:
        HEp2Error: missing, damaged, of another fold, or without an encoder.
    """
    if not path.is_file():
        raise HEp2Error(f"the encoder {path} is not there; train it first: {remedy}")
    content = read_checkpoint(path)
    hparams = content["hyper_parameters"]
    forms = {"architecture": str, "network": dict, "provenance": dict}
    lacking = [key for key, form in forms.items() if not isinstance(hparams.get(key), form)]
    if lacking:
        raise HEp2Error(f"{path} holds no encoder of hep2: it lacks {', '.join(lacking)}")
    found = hparams["provenance"]
    wrong = [
        f"{key} is {found.get(key)!r}, not {value!r}"
        for key, value in expected.items()
        if found.get(key) != value
    ]
    if wrong:
        raise HEp2Error(
            f"the encoder {path} belongs to another experiment ({'; '.join(wrong)}) and may have "
            f"seen test specimens of this one; train the right one: {remedy}"
        )
    encoder = EncoderCheckpoint(
        path=path,
        architecture=hparams["architecture"],
        network=hparams["network"],
        view=hparams.get("view", "intensity"),
        learned_with_labels=hparams.get("freeze") is False,  # a supervised network's encoder
        state=content["state_dict"],
    )
    # Without memory, before a network is built that only a hostile file could ask for.
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")
        encoder.load_into(build(ENCODERS, encoder.architecture, **encoder.network))
    return encoder
