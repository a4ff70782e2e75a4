"""Agreement of two views: by the papers' equations, in plain loops."""

import math

import pytest
import torch
from torch import Tensor

from hep2.errors import HEp2Error
from hep2.tasks.joint_embedding import JointEmbedding, nt_xent, vicreg


def views(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    one = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    return one, one + 0.3 * torch.randn(5, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4], [7, 7, 3, 7, 3]])
def test_nt_xent_is_the_equation_of_its_papers(groups: list[int]) -> None:
    """Equation 1 of SimCLR where every cell is by itself, else equation 2 of Khosla et al."""
    one, other = views()
    both, temperature = [*one, *other], 0.2

    def similarity(a: Tensor, b: Tensor) -> float:
        return math.exp(float(a @ b / a.norm() / b.norm()) / temperature)

    losses = []
    for i in range(10):
        every = sum(similarity(both[i], both[k]) for k in range(10) if k != i)
        positives = [j for j in range(10) if j != i and groups[j % 5] == groups[i % 5]]
        terms = [-math.log(similarity(both[i], both[j]) / every) for j in positives]
        losses.append(sum(terms) / len(terms))
    found = nt_xent(one, other, torch.tensor(groups), temperature)
    assert float(found) == pytest.approx(sum(losses) / 10)


def test_vicreg_is_its_paper_s_over_25() -> None:
    one, other = views()
    invariance = sum(float((a - b) @ (a - b)) for a, b in zip(one, other, strict=True)) / 5
    variance = covariance = 0.0
    for view in (one, other):
        matrix = torch.cov(view.T)
        for i in range(3):
            variance += max(0.0, 1 - math.sqrt(float(matrix[i, i]) + 1e-4)) / 3
            covariance += sum(float(matrix[i, j]) ** 2 for j in range(3) if j != i) / 3
    # The paper's invariance is summed over the dimensions; its code, and ours, takes their mean.
    wanted = invariance / 3 + variance + covariance / 25
    assert float(vicreg(one, other, torch.arange(5), 0.2)) == pytest.approx(wanted)


POSE = {"rotate": 180, "scale": 0.15, "translate": 0.05}
ARGUMENTS = {
    "architecture": "dcae",
    "network": {"image_size": 16, "widths": [4, 8]},
    "loss": "mse",
    "optimizer": {"lr": 1e-3, "weight_decay": 0.0, "schedule": "constant"},
    "provenance": {"seed": 3},
}


def test_an_unknown_agreement_names_the_known_ones() -> None:
    with pytest.raises(HEp2Error, match=r"objective.agreement=x is unknown: .* nt_xent, vicreg"):
        JointEmbedding("x", "cell", 0.5, POSE, [8], 0.2, **ARGUMENTS)


def test_what_agrees_are_cells_or_specimens() -> None:
    with pytest.raises(
        HEp2Error, match=r"positives=slide is unknown: choose one of specimen, cell"
    ):
        JointEmbedding("nt_xent", "slide", 0.5, POSE, [8], 0.2, **ARGUMENTS)
    image = torch.rand(6, 1, 16, 16)
    losses = {}
    for positives in ("cell", "specimen"):
        for specimens in (torch.arange(6), torch.arange(6) // 2):
            torch.manual_seed(0)
            task = JointEmbedding("nt_xent", positives, 0.5, POSE, [8], 0.2, **ARGUMENTS)
            batch = {"image": image, "index": torch.arange(6), "specimen": specimens}
            losses[positives, int(specimens[-1])] = float(task.training_step(batch, 0).detach())
    assert losses["cell", 5] == losses["cell", 2] == losses["specimen", 5]
    assert losses["specimen", 2] != losses["cell", 2]


@pytest.mark.parametrize("agreement", ["nt_xent", "vicreg"])
def test_a_step_teaches_encoder_decoder_and_projector(agreement: str) -> None:
    task = JointEmbedding(agreement, "specimen", 0.5, POSE, [8, 8], 0.2, **ARGUMENTS)
    batch = {
        "image": torch.rand(6, 1, 16, 16),
        "index": torch.arange(6),
        "specimen": torch.arange(6) // 2,
    }
    task.training_step(batch, 0).backward()
    for part in (task.encoder, task.decoder, task.projector):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters()
                   if p.ndim > 1)  # fmt: skip
    # Without weight the agreement teaches nothing: the projector is beside the road.
    alone = JointEmbedding(agreement, "specimen", 0.0, POSE, [8, 8], 0.2, **ARGUMENTS)
    alone.training_step(batch, 0).backward()
    assert all(p.grad.abs().sum() == 0 for p in alone.projector.parameters())


def test_the_two_views_differ_and_repeat_themselves() -> None:
    task = JointEmbedding("nt_xent", "cell", 0.5, POSE, [8], 0.2, **ARGUMENTS)
    batch = {"image": torch.rand(4, 1, 16, 16), "index": torch.tensor([7, 1, 3, 9])}
    keys = [task.keys(batch, draw) for draw in (0, 1, 0)]
    assert torch.equal(keys[0], keys[2]) and not (keys[0] == keys[1]).any()
