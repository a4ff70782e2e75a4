"""The audit finds what was planted, and nothing in cells that share nothing."""

import numpy as np
import pytest

from hep2.data.audit import audit_split, close_pairs, perceptual_hashes, shrunk
from hep2.data.cells import Cells
from hep2.data.fold import Fold, audited
from hep2.data.protocols import Split
from hep2.data.views import oriented


def textures(count, seed=0, side=64):
    """Smooth random images, as different from each other as cells of different specimens."""
    rng = np.random.default_rng(seed)
    steps = np.arange(side) / side
    waves = np.cos(np.pi * np.arange(7)[:, None] * steps)
    images = np.einsum("nkl,kx,ly->nxy", rng.normal(size=(count, 7, 7)), waves, waves)
    images -= images.min(axis=(1, 2), keepdims=True)
    images *= 200 / images.max(axis=(1, 2), keepdims=True)
    return images.astype(np.uint8)[:, None]


def cells_of(images, specimens=None):
    count = len(images)
    return Cells(
        images=images,
        ids=np.array([f"c{i:03d}" for i in range(count)]),
        labels=np.zeros(count, dtype=np.int64),
        specimens=np.array(specimens if specimens is not None else [f"s{i}" for i in range(count)]),
        pools=np.array([""] * count),
        classes=("one",),
        name="planted",
        key="0" * 16,
    )


def halves(count):
    return np.arange(count // 2), np.arange(count // 2, count)


def test_nothing_is_found_where_nothing_is_shared():
    audit = audit_split(cells_of(textures(120)), *halves(120))
    assert audit.as_dict() == {
        "shared_specimens": 0,
        "cells_of_shared_specimens": 0,
        "identical_cells": 0,
        "near_duplicate_cells": 0,
        "pairs": [],
    }


def test_planted_copies_are_found():
    images = textures(120)
    images[70] = images[3]
    images[80] = images[57]
    audit = audit_split(cells_of(images), *halves(120))
    assert (audit.identical_cells, audit.near_duplicate_cells) == (2, 0)
    assert audit.pairs == [["c070", "c003", "identical"], ["c080", "c057", "identical"]]


def test_copies_within_one_side_are_no_leak():
    images = textures(120)
    images[4] = images[3]
    images[71] = images[70]
    audit = audit_split(cells_of(images), *halves(120))
    assert (audit.identical_cells, audit.near_duplicate_cells) == (0, 0)


@pytest.mark.parametrize("turn", range(8))
def test_turned_brighter_and_noisy_copies_are_near_duplicates(turn, monkeypatch):
    monkeypatch.setattr("hep2.data.audit.CELLS", 7)  # the copies stand in later blocks
    images = textures(120)
    changed = oriented(images[3].astype(np.float32), turn)[0] * 0.8 + 20
    noise = np.random.default_rng(1).normal(0, 2, changed.shape)
    images[70, 0] = np.clip(changed + noise, 0, 255).astype(np.uint8)
    audit = audit_split(cells_of(images), *halves(120))
    assert (audit.identical_cells, audit.near_duplicate_cells) == (0, 1)
    assert audit.pairs == [["c070", "c003", "near"]]


def test_specimens_on_both_sides_are_counted_with_their_test_cells():
    specimens = ["a"] * 50 + ["b"] * 40 + ["c"] * 30  # test: cells 60 to 119, b 30 and c 30
    audit = audit_split(cells_of(textures(120), specimens), *halves(120))
    assert (audit.shared_specimens, audit.cells_of_shared_specimens) == (1, 30)


def test_unknown_specimens_are_unknown_not_zero():
    audit = audit_split(cells_of(textures(20), [""] * 20), *halves(20))
    assert (audit.shared_specimens, audit.cells_of_shared_specimens) == (None, None)


def test_hash_is_that_of_the_textbook_transform():
    from scipy.fft import dctn

    images = shrunk(cells_of(textures(5)), np.arange(5))
    for image, found in zip(images, perceptual_hashes(images), strict=True):
        waves = dctn(image.astype(np.float64), norm="ortho")[:8, :8].ravel()[1:]
        expected = np.packbits([False, *(waves > np.median(waves))]).view(np.uint64)[0]
        assert (
            int(np.bitwise_count(expected ^ found)) <= 1
        )  # a tie at the median may fall either way


def test_close_pairs_are_those_of_the_double_loop(monkeypatch):
    monkeypatch.setattr("hep2.data.audit._PAIRS", 64)  # several blocks
    rng = np.random.default_rng(0)
    ours, theirs = (rng.integers(0, 2**12, n).astype(np.uint64) for n in (40, 30))
    expected = {
        (i, j)
        for i, a in enumerate(ours.tolist())
        for j, b in enumerate(theirs.tolist())
        if bin(a ^ b).count("1") <= 3
    }
    rows, columns = close_pairs(ours, theirs, 3)
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == expected
    assert len(rows) == len(expected) > 10


def test_black_images_are_identical_not_a_division_by_zero():
    images = np.zeros((20, 1, 32, 32), dtype=np.uint16)
    with np.errstate(all="raise"):
        audit = audit_split(cells_of(images), *halves(20))
    assert (audit.identical_cells, audit.near_duplicate_cells) == (10, 0)


def test_a_run_compares_its_test_cells_with_validation_too():
    images = textures(120)
    images[80] = images[57]
    parts = np.arange(50), np.arange(50, 60), np.arange(60, 120)  # 57 validates
    audit = audited(Fold(cells_of(images), Split(*parts, leaky=True), 0, 1, {"fold": 0}))
    assert audit.pairs == [["c080", "c057", "identical"]]
