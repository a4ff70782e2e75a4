import hashlib
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from hep2.data.simulator.cells import CLASSES, SyntheticCells, simulate
from hep2.data.simulator.patterns import DOTS, NUCLEOLI, PATTERNS, draw_cells
from hep2.errors import HEp2Error

SMALL = {"cells": 60, "specimens": 10, "image_size": 32}


@pytest.fixture(scope="module")
def cells() -> SyntheticCells:
    return simulate()


def digest(found: SyntheticCells) -> str:
    arrays = (found.images, found.ids, found.labels, found.specimens, found.pools)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def summaries(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Columns: mean, fifth percentile, standard deviation, log power of three bands."""
    pixels = images.reshape(len(images), -1).astype(float)
    power = np.abs(np.fft.fft2(images - pixels.mean(axis=1)[:, None, None])) ** 2
    frequency = np.fft.fftfreq(images.shape[1]) * images.shape[1]
    ring = np.hypot(frequency[:, None], frequency[None, :])
    bands = [(ring >= low) & (ring < high) for low, high in ((1, 4), (4, 9), (9, 18))]
    return np.stack(
        [pixels.mean(axis=1), np.percentile(pixels, 5, axis=1), pixels.std(axis=1)]
        + [np.log(power[:, band].mean(axis=1)) for band in bands],
        axis=1,
    )


def test_default_is_the_published_design(cells: SyntheticCells) -> None:
    assert cells.images.shape == (1884, 64, 64)
    assert cells.images.dtype == np.uint8
    assert Counter(cells.pools.tolist()) == {"train": 905, "test": 979}
    assert CLASSES == (
        "homogeneous",
        "coarse_speckled",
        "fine_speckled",
        "nucleolar",
        "centromere",
    )
    owners = set(
        zip(cells.specimens.tolist(), cells.labels.tolist(), cells.pools.tolist(), strict=True)
    )
    assert len(owners) == len(set(cells.specimens.tolist())) == 40  # one label, one pool each
    assert Counter((label, pool) for _, label, pool in owners) == {
        (label, pool): 4 for label in CLASSES for pool in ("train", "test")
    }
    sizes = Counter(cells.specimens.tolist()).values()
    assert min(sizes) >= 20 and max(sizes) <= 75 and max(sizes) > 1.5 * min(sizes)
    assert len(set(cells.ids.tolist())) == 1884
    assert sorted(cells.ids.tolist()) == cells.ids.tolist()


def test_images_use_the_range_without_saturating(cells: SyntheticCells) -> None:
    pixels = cells.images.reshape(len(cells.images), -1)
    assert (pixels == 255).mean() < 0.01
    assert (pixels == 0).mean() < 0.01
    assert pixels.std(axis=1).min() > 2
    assert pixels.max() > 200


def test_same_arguments_same_bytes_and_other_seeds_differ() -> None:
    assert digest(simulate(**SMALL, seed=3)) == digest(simulate(**SMALL, seed=3))
    one, other = simulate(**SMALL, seed=3), simulate(**SMALL, seed=4)
    assert (one.images != other.images).mean() > 0.5


def test_a_specimen_does_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    before = simulate(**SMALL)
    changed = PATTERNS["homogeneous"] | {"diffuse": (0.2, 0.3)}
    monkeypatch.setitem(PATTERNS, "homogeneous", changed)
    after = simulate(**SMALL)
    same = (before.images == after.images).all(axis=(1, 2))
    assert np.array_equal(same, before.labels != "homogeneous")


@pytest.mark.parametrize(("total", "specimens"), [(60, 10), (97, 20), (30, 10)])
def test_small_data_sets_keep_the_design(total: int, specimens: int) -> None:
    found = simulate(cells=total, specimens=specimens, image_size=20)
    assert found.images.shape == (total, 20, 20)
    assert (found.pools == "train").sum() == round(total * 905 / 1884)
    for label in CLASSES:
        for pool in ("train", "test"):
            here = (found.labels == label) & (found.pools == pool)
            assert len(set(found.specimens[here].tolist())) == specimens // 10


@pytest.mark.parametrize("size", [16, 33, 96])
def test_the_field_is_the_same_at_any_image_size(size: int) -> None:
    image = simulate(60, 10, size).images.astype(float)
    assert image.shape == (60, size, size)
    edge = size // 8
    middle = image[:, 3 * edge : -3 * edge, 3 * edge : -3 * edge].mean()
    assert middle > 1.5 * image[:, :edge, :edge].mean()  # a bright nucleus in a dark field


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"specimens": 15}, "specimens=15"),
        ({"specimens": 0}, "specimens=0"),
        ({"cells": 29}, "cells=29"),
        ({"image_size": 8}, "image_size=8"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_impossible_numbers_are_named(wrong: dict[str, int], named: str) -> None:
    with pytest.raises(HEp2Error, match=named):
        simulate(**(SMALL | wrong))


def test_structures_are_counted_as_the_patterns_ask() -> None:
    rng = np.random.default_rng(0)
    drawn = {label: [draw_cells(label, 50, rng) for _ in range(20)] for label in CLASSES}
    dots = np.concatenate([cells.spots for cells in drawn["centromere"]])
    assert dots.min() >= DOTS[0] == 40 and dots.max() <= DOTS[1] == 60
    assert len(np.unique(dots)) > 15
    bodies = np.concatenate([cells.nucleoli for cells in drawn["nucleolar"]])
    assert set(bodies) == set(range(NUCLEOLI[0], NUCLEOLI[1] + 1)) == {1, 2, 3, 4, 5, 6}
    few = np.concatenate([cells.spots for cells in drawn["coarse_speckled"]])
    many = np.concatenate([cells.spots for cells in drawn["fine_speckled"]])
    assert few.max() < many.min()


@pytest.mark.parametrize(("column", "least"), [(0, 0.4), (1, 0.5), (2, 0.25), (5, 0.2)])
def test_specimens_differ_within_their_pattern(
    cells: SyntheticCells, column: int, least: float
) -> None:
    """Part of the variance within a pattern that lies between specimens; chance is about 0.02."""
    values = summaries(cells.images)[:, column]
    for label in CLASSES:
        values[cells.labels == label] -= values[cells.labels == label].mean()
    within = values.copy()
    for specimen in np.unique(cells.specimens):
        within[cells.specimens == specimen] -= values[cells.specimens == specimen].mean()
    assert 1 - within.var() / values.var() > least


def test_patterns_carry_over_to_new_specimens(cells: SyntheticCells) -> None:
    """Nearest centroid of six plain figures, from one pool to the other; chance is 0.2."""
    figures = summaries(cells.images)
    train = cells.pools == "train"
    figures = (figures - figures[train].mean(axis=0)) / figures[train].std(axis=0)
    centroids = np.stack([figures[train & (cells.labels == c)].mean(axis=0) for c in CLASSES])
    distance = np.linalg.norm(figures[~train, None] - centroids[None], axis=2)
    output = np.array(CLASSES)[distance.argmin(axis=1)]
    recalls = [(output[cells.labels[~train] == c] == c).mean() for c in CLASSES]
    assert np.mean(recalls) > 0.5
