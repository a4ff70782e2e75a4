"""Fisher vectors against a plain loop over their paper's formulas."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Configure

from hep2.errors import HEp2Error
from hep2.features.fisher import FisherVectors, normalised, regions
from hep2.run import fit


def fitted(seed: int = 0) -> FisherVectors:
    vectors = FisherVectors(level=2, components=3, gaussians=4, core=0.6, sample=500)
    rng = np.random.default_rng(seed)
    vectors.fit(rng.normal(size=(500, 5)).astype(np.float32) * [1, 2, 3, 1, 1], seed)
    return vectors


def plain(vectors: FisherVectors, image: Any, region: list[int]) -> list[float]:
    """Equations 16 to 18, descriptor by descriptor, of one map and one region."""
    w, mu, sd = (part.numpy() for part in (vectors.weights, vectors.centres, vectors.deviations))
    first, second = np.zeros_like(mu), np.zeros_like(mu)
    for place in region:
        x = (image.reshape(5, -1)[:, place] - vectors.mean.numpy()) @ vectors.axes.numpy()
        densities = [
            w[k] * math.prod(math.exp(-((x[d] - mu[k, d]) ** 2) / 2 / sd[k, d] ** 2)
                             / sd[k, d] / math.sqrt(2 * math.pi) for d in range(3))
            for k in range(4)
        ]  # fmt: skip
        for k in range(4):
            share = densities[k] / sum(densities)
            first[k] += share * (x - mu[k]) / sd[k] / math.sqrt(w[k])
            second[k] += share * ((x - mu[k]) ** 2 / sd[k] ** 2 - 1) / math.sqrt(2 * w[k])
    return [*(first / len(region)).ravel(), *(second / len(region)).ravel()]


@pytest.mark.parametrize("masked", [False, True])
def test_vectors_are_the_formulas_of_the_paper(masked: bool) -> None:
    vectors = fitted()
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(3, 5, 6, 6, generator=generator)
    masks = (torch.rand(3, 1, 6, 6, generator=generator) > 0.5).float() if masked else None
    found = vectors.gradients(maps, masks)
    both = [part.numpy() for part in regions(maps, masks, 0.6)]
    for number, (image, row) in enumerate(zip(maps.double().numpy(), found, strict=True)):
        inside, outside = (np.flatnonzero(part[number]).tolist() for part in both)
        wanted = plain(vectors, image, inside) + plain(vectors, image, outside)
        assert row.numpy() == pytest.approx(wanted, abs=1e-5)


def test_the_two_regions_are_the_middle_and_the_rest() -> None:
    inside, outside = regions(torch.zeros(1, 3, 16, 16), None, 0.62)
    assert inside.reshape(16, 16)[3:13, 3:13].all() and int(inside.sum()) == 100
    assert torch.equal(inside, ~outside)


def test_a_mask_says_better_what_is_inside() -> None:
    masks = torch.zeros(2, 1, 64, 64)
    masks[1, :, :, :30] = 1  # the left half, but for two columns; the first cell has no mask
    inside, _ = regions(torch.zeros(2, 3, 16, 16), masks, 0.62)
    assert int(inside[0].sum()) == 100
    assert torch.equal(inside[1].reshape(16, 16), (torch.arange(16) < 8).expand(16, 16))


def test_normalisation_is_a_signed_root_of_unit_length() -> None:
    found = normalised(torch.tensor([[4.0, -9.0, 0.0]]))[0]
    assert found.tolist() == pytest.approx([2 / 13**0.5, -3 / 13**0.5, 0])


PLUS = ("augment=pose", "model.network.bounded=false", "stage.epochs=2")
SMALL = ("features.local.components=4", "features.local.gaussians=3", "features.local.sample=500")


def test_a_head_on_fisher_vectors(configure: Configure) -> None:
    fit(configure("stage=dcae_plus", *PLUS))
    run = fit(configure("stage=head", "features=dcae_fisher", *PLUS, *SMALL))
    again = (
        "name=again",
        f"encoder={run.path.parents[2] / 'dcae_plus-dcae/fold0/seed0/best.ckpt'}",
    )
    other = fit(configure("stage=head", "features=dcae_fisher", *PLUS, *SMALL, *again))
    assert run.predictions.read_bytes() == other.predictions.read_bytes()


def test_an_encoder_without_such_a_map_is_named(configure: Configure) -> None:
    fit(configure("stage=dcae_plus", *PLUS))
    words = ("stage=head", "features=dcae_fisher", *PLUS, *SMALL, "features.local.level=9")
    with pytest.raises(HEp2Error, match=r"features.local.level=9.* has 4"):
        fit(configure(*words))
