"""The table of architectures: checkpoints and configurations name networks, never code."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from hep2.errors import HEp2Error
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
    if name not in table:
        raise HEp2Error(f"network {name!r} is unknown: choose one of {', '.join(table)}")
    try:
        network = table[name](**arguments)
    except TypeError as error:
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
