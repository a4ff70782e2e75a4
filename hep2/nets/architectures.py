"""Networks by name, and their weights; without Lightning, as for prediction.

Checkpoints and configurations name networks, never code; the safe loader alone reads checkpoints.
"""

import inspect
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hep2.errors import HEp2Error, check_types
from hep2.nets.dcae import Decoder, Encoder
from hep2.nets.dense import DenseDecoder, DenseEncoder
from hep2.nets.lenet import LeNet
from hep2.nets.mlp import MLP

Build = Callable[..., nn.Module]

# To add a network: write its module, add it here, and give it a conf/model/<name>.yaml.
# An encoder has the attribute `latent_size` and maps (B, 1, H, W) to (B, latent_size).
ENCODERS: dict[str, Build] = {"dcae": Encoder, "dense": DenseEncoder, "lenet": LeNet}
DECODERS: dict[str, Build] = {"dcae": Decoder, "dense": DenseDecoder}
HEADS: dict[str, Build] = {"mlp": MLP}


def build(table: Mapping[str, Build], name: str, **arguments: Any) -> Any:
    """Build the network that a table holds under a name.

    Its weights are channels_last: convolutions of images with few channels run about twice as fast.

    Raises:
        HEp2Error: the table has no such name, or the network takes no such argument.
    """
    if name not in list(table):  # as of `one_of`
        raise HEp2Error(f"network {name!r} is unknown: choose one of {', '.join(table)}")
    takes = inspect.signature(table[name]).parameters
    if unknown := sorted(set(arguments) - set(takes)):
        known = [each for each in takes if each not in ("inputs", "classes")]  # we give these
        wrong, has = ", ".join(unknown), ", ".join(known)
        raise HEp2Error(f"network {name!r} has no setting {wrong}; it has {has}")
    check_types(f"network {name!r}: ", table[name], arguments, least=1)
    try:
        network = table[name](**arguments)
    except (TypeError, ValueError) as error:
        raise HEp2Error(f"network {name!r}: {error}") from error
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def encoder_and_head(
    architecture: str | None, network: Mapping[str, Any], head: Mapping[str, Any], classes: int
) -> tuple[Any, nn.Module]:
    """The networks of a classifier, fresh; the encoder is None where there is no architecture.

    Raises:
        HEp2Error: as of `build`.
    """
    encoder = None if architecture is None else build(ENCODERS, architecture, **network)
    latent_size = network["latent_size"] if encoder is None else encoder.latent_size
    shape = {key: value for key, value in head.items() if key != "architecture"}
    sizes = {"inputs": latent_size, "classes": classes}
    return encoder, build(HEADS, head["architecture"], **sizes, **shape)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint by the safe loader, which can run no code.

    Raises:
        HEp2Error: the file is missing, damaged, or holds more than built-in types and tensors.
    """
    try:
        check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise HEp2Error(f"there is no checkpoint {path}") from error
    except Exception as error:  # torch's reader fails in a dozen ways on what is not a checkpoint
        what = f"{path} is damaged or not a checkpoint of hep2 ({type(error).__name__})"
        raise HEp2Error(f"{what}: delete its folder and train again") from error
    needed = ("state_dict", "hyper_parameters")
    if not isinstance(content, dict) or any(not isinstance(content.get(k), dict) for k in needed):
        raise HEp2Error(f"{path} is not a checkpoint of hep2: it lacks weights or hyper-parameters")
    return content


def check_archive(path: Path) -> None:
    """Look whether an archive is as torch has written it.

    torch writes a zip archive whose parts are not compressed, and does not compare their checksums
    when it reads them: a flipped bit would be a changed weight. An archive of another form could
    unfold to any size. So no byte may have changed, and nothing be inflated.

    Raises:
        ValueError: it is not; the message says where.
        OSError: it cannot be read.
        zipfile.BadZipFile: it is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("compressed")
        if any(part.external_attr for part in parts):  # "a folder": torch would not read it
            raise ValueError("foreign attributes")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("larger inside than outside")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is damaged")


def load_weights(network: nn.Module, content: Mapping[str, Any], part: str, path: Path) -> None:
    """Copy the weights of a part, "encoder" or "" for all, out of what a checkpoint holds.

    Raises:
        HEp2Error: keys or shapes differ; the message names them and the file.
    """
    prefix = f"{part}." if part else ""
    state = content["state_dict"]
    own = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
    try:
        network.load_state_dict(own, strict=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise HEp2Error(f"{path} does not fit its own network: {reason}") from error
