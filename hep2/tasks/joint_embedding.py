"""Stage 1 with a joint-embedding term: views of cells are to agree, beside denoising them."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from hep2.data.views import standardised
from hep2.errors import HEp2Error, check_number, one_of
from hep2.tasks.denoising import Denoising
from hep2.tasks.perturbation import perturbed, posed

POSE = ("rotate", "scale", "translate")
POSITIVES = {"specimen": "specimen", "cell": "index"}  # and what batches call the numbers of them


class JointEmbedding(Denoising):
    """Denoising of two views of each cell, and agreement of their latents behind a projector.

    Of the two views one lies as the batch has it and one in a pose of its own, both are perturbed:
    what they agree on is neither the microscope's nor the pose's; where those of a specimen's cells
    agree, it is not a single cell's either. The projector sees the mean of the latent's map; it is
    trained with the rest and thrown away afterwards: what agrees behind it has lost more than the
    latent in front of it (Chen et al. 2020, section 4.2).

    Args:
        agreement: "nt_xent" or "vicreg".
        positives: of "nt_xent", what shall agree: "specimen", all views of the cells of a specimen,
            which has one pattern whatever its name; "cell", the two views of a cell.
        weight: of the agreement beside the reconstruction.
        pose: of the second view: largest rotation in degrees, relative change of size, and shift
            as a share of the side.
        projector: widths behind the mean of the map.
        temperature: of "nt_xent".
        arguments: those of `Reconstruction`.

    Raises:
        HEp2Error: a setting that is none of its kind, or a network whose latent is not a map.
    """

    def __init__(
        self,
        agreement: str,
        positives: str,
        weight: float,
        pose: Mapping[str, float],
        projector: Sequence[int],
        temperature: float,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.save_hyperparameters()
        check_number("stage.objective.weight", weight)
        if not isinstance(pose, Mapping) or set(pose) != set(POSE):
            raise HEp2Error(f"stage.objective.pose={pose} must give {', '.join(POSE)}")
        for name, largest in pose.items():
            check_number(f"stage.objective.pose.{name}", largest)
        check_number("stage.objective.temperature", temperature)
        if not isinstance(projector, list) or not projector:
            raise HEp2Error(
                f"stage.objective.projector={projector} must be a list of widths, e.g. [512,512]"
            )
        agree = one_of("stage.objective.agreement", agreement, AGREEMENTS)
        if "widths" not in arguments["network"]:
            raise HEp2Error(
                f"model.architecture={arguments['architecture']}: its latent is not a map of "
                "features; choose model=dcae"
            )
        self.channels = int(arguments["network"]["widths"][-1])
        self.projector = _projector(self.channels, projector)
        self.agreement = partial(agree, temperature=temperature)
        self.positives = one_of("stage.objective.positives", positives, POSITIVES)
        self.train_agreement = MeanMetric(nan_strategy="disable")

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """The reconstruction of both views, and their agreement."""
        image, count = batch["image"], len(batch["image"])
        clean = [image, posed(image, self.keys(batch, 2), **self.hparams["pose"])]
        keys = [self.keys(batch, draw) for draw in (0, 1)]
        views = [standardised(perturbed(*view)) for view in zip(clean, keys, strict=True)]
        latent = self.encoder(torch.cat(views))
        rebuilt = self.loss(self.decoder(latent), standardised(torch.cat(clean)))
        pooled = latent.view(2 * count, self.channels, -1).mean(dim=2)
        agreed = self.agreement(*self.projector(pooled).split(count), batch[self.positives])
        self.train_loss.update(rebuilt.detach())
        self.train_agreement.update(agreed.detach())
        loss: Tensor = rebuilt + self.hparams["weight"] * agreed
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the means of both."""
        super().on_train_epoch_end()
        self.log("train/agreement", self.train_agreement)


def _projector(channels: int, widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((channels, *widths)):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-2])  # the last is linear


def nt_xent(one: Tensor, other: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy of the views that are to agree.

    The positives of a view are all other views of its group, all others of the batch are negatives
    (Khosla et al., NeurIPS 2020, equation 2, there with labels); where each cell is a group of its
    own, the other view of the cell (Chen et al., ICML 2020, equation 1).

    Shape:
        two of (B, D), and numbers of groups, (B,) -> ()
    """
    both = F.normalize(torch.cat([one, other]), dim=1)
    itself = torch.eye(len(both), dtype=torch.bool, device=both.device)
    similar = (both @ both.T / temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1)
    group = groups.repeat(2)
    positive = (group[:, None] == group) & ~itself
    agreed = similar.masked_fill(~positive, 0).sum(dim=1) / positive.sum(dim=1)
    return -agreed.mean()


def vicreg(one: Tensor, other: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """Variance, invariance and covariance (Bardes, Ponce and LeCun, ICLR 2022, equations 1 to 6).

    With the authors' weights 25, 25 and 1, all divided by 25: so the invariance has weight 1, and
    the sum is of the size of a reconstruction's error. There are no negatives, so neither groups
    nor a temperature are read.

    Shape:
        two of (B, D) -> ()
    """
    loss = F.mse_loss(one, other)
    for view in (one, other):
        centred = view - view.mean(dim=0)
        covariance = centred.T @ centred / (len(view) - 1)
        spread = (covariance.diagonal() + 1e-4).sqrt()
        across = covariance.square().sum() - covariance.diagonal().square().sum()
        loss = loss + F.relu(1 - spread).mean() + across / view.shape[1] / 25
    return loss


AGREEMENTS: dict[str, Callable[..., Tensor]] = {"nt_xent": nt_xent, "vicreg": vicreg}
