"""The fold's encoder: loaded whole, from a checkpoint of this very fold, or not at all."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from hep2.data.fold import Fold
from hep2.errors import HEp2Error
from hep2.nets.architectures import ENCODERS, build, load_weights, read_checkpoint
from hep2.rundir.layout import encoder_paths, train_command

OWN = ("data", "split", "protocol", "fold", "seed")  # of weights learned from a fold's own cells
POOL = ("data", "pool", "protocol", "seed")  # and from all that share no specimen with its test


@dataclass(frozen=True)
class EncoderCheckpoint:
    """What a later stage needs to know of a trained autoencoder."""

    path: Path
    architecture: str
    network: dict[str, Any]
    view: str  # of the cells, a name in `hep2.data.views.VIEWS`
    learned_with_labels: bool
    content: dict[str, Any]  # all of the checkpoint

    @property
    def made_by(self) -> dict[str, Any]:
        """What builds the encoder, without its weights."""
        return {"architecture": self.architecture, "network": self.network}

    def encoder(self) -> nn.Module:
        """The encoder with its weights; as `load_into`."""
        network: nn.Module = build(ENCODERS, self.architecture, **self.network)
        self.load_into(network)
        return network

    def load_into(self, network: nn.Module, part: str = "encoder") -> None:
        """Copy a part's weights, "encoder" or "decoder"; HEp2Error as of `load_weights`."""
        load_weights(network, self.content, part, self.path)


def own_encoders(cfg: DictConfig, fold: Fold) -> list[EncoderCheckpoint]:
    """The fold's own encoders that are asked for; HEp2Error: one is missing, or another fold's."""
    paths = encoder_paths(cfg, selected=not fold.split.note)
    return [
        read_encoder(path, fold.provenance | fold.pool_provenance, train_command(cfg, stage, model))
        for path, (stage, model) in zip(paths, cfg.stage.encoders.items(), strict=True)
    ]


def read_encoder(path: Path, expected: Mapping[str, str | int], remedy: str) -> EncoderCheckpoint:
    """Read an encoder and refuse one that was trained on other cells than `expected`.

    An encoder of another fold has seen this fold's test specimens. `expected` is the provenance of
    this fold, its own and its pool's; `remedy` the command that trains the right encoder.

    Raises:
        HEp2Error: missing, damaged, of another fold, or without an encoder.
    """
    if not path.is_file():
        raise HEp2Error(f"the encoder {path} is not there; train it first: {remedy}")
    content = read_checkpoint(path)
    hparams = content["hyper_parameters"]
    forms = {"architecture": str, "network": dict, "provenance": dict}
    if lacking := [key for key, form in forms.items() if not isinstance(hparams.get(key), form)]:
        raise HEp2Error(f"{path} holds no encoder of hep2: it lacks {', '.join(lacking)}")
    found = hparams["provenance"]
    bound_to = POOL if "pool" in found else OWN
    wrong = [key for key in bound_to if found.get(key) != expected[key]]
    if wrong:
        differ = "; ".join(f"{k} is {found.get(k)!r}, not {expected[k]!r}" for k in wrong)
        raise HEp2Error(
            f"the encoder {path} belongs to another experiment ({differ}) and may have seen test "
            f"specimens of this one; train the right one: {remedy}"
        )
    checkpoint = EncoderCheckpoint(
        path=path,
        architecture=hparams["architecture"],
        network=hparams["network"],
        view=hparams.get("view", "intensity"),
        learned_with_labels=hparams.get("freeze") is False,  # a supervised network's encoder
        content=content,
    )
    # Without memory, before a network is built that only a hostile file could ask for.
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")
        checkpoint.encoder()
    return checkpoint
