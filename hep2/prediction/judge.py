"""How strange a cell is to the autoencoder whose encoder a method uses."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hep2.data.views import view_of
from hep2.features.transforms import Encoding, Representation
from hep2.nets.architectures import DECODERS, build, load_weights, read_checkpoint
from hep2.rundir.directory import RunDir
from hep2.rundir.result import read_result

Result = dict[str, Any]  # of result.json


class Judge(nn.Module):
    """The reconstruction error over its limit, "novelty".

    `limit` is the 99th percentile of its error on cells it had not learned from.
    """

    def __init__(self, encoding: Encoding, decoder: nn.Module, limit: float, run: Path) -> None:
        super().__init__()
        self.encoder, self.decoder, self.limit = encoding.encoder, decoder, limit
        self.run = run  # whose autoencoder it is
        self.view = view_of(encoding.view)

    def forward(self, image: Tensor) -> Tensor:
        """The error of the reconstruction of a cell as it is, over the limit.

        Shape:
            (B, 1, H, W) -> (B,)
        """
        return self.error(image).mean(dim=(1, 2, 3)) / self.limit

    def error(self, image: Tensor) -> Tensor:
        """The squared error of each pixel, float64.

        Shape:
            (B, 1, H, W) -> (B, 1, H, W)
        """
        seen = self.view(image)
        made: Tensor = self.decoder(self.encoder(seen)) - seen
        return made.double().square()


def weights_of(path: Path, result: Result) -> Path:
    """What the run was tested with: the best epoch where validation could choose."""
    return RunDir(path).last if result.get("validation") else RunDir(path).best


def judge_of(path: Path, representation: Representation) -> Judge | None:
    """By the autoencoder, of the run's fold and seed, that has the encoder of a transform."""
    for encoding in representation.transforms:
        if not isinstance(encoding, Encoding):
            continue
        ours = encoding.encoder.state_dict()
        for other in sorted(path.parents[2].glob(f"*/{path.parent.name}/{path.name}/result.json")):
            result = read_result(other)
            file, limit = weights_of(other.parent, result), result.get("novelty", {}).get("mse")
            if isinstance(limit, float) and limit > 0 and file.is_file():
                content = read_checkpoint(file)
                theirs = {key.removeprefix("encoder."): value
                          for key, value in content["state_dict"].items()
                          if key.startswith("encoder.")}  # fmt: skip
                if _equal(ours, theirs):
                    return Judge(encoding, _decoder(file, content), limit, other.parent)
    return None


def _equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def _decoder(file: Path, content: dict[str, Any]) -> nn.Module:
    """The decoder of an autoencoder, whatever objective it has learned by."""
    settings = content["hyper_parameters"]
    decoder: nn.Module = build(DECODERS, settings["architecture"], **settings["network"])
    load_weights(decoder, content, "decoder", file)
    return decoder
