"""Forked workers under a parent whose libraries have threads: no hang, no difference."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from conftest import Configure
from helpers.mutations import no_hang
from torch import Tensor

from hep2.data.augment import Augmentation
from hep2.data.datamodule import CellBatches, HEp2DataModule, Key
from hep2.data.fold import Fold
from hep2.data.inputs import CellImages
from hep2.data.opencv import cv2
from hep2.run import fit


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """As with OMP_NUM_THREADS=2; the pools of torch and OpenCV are there before any fork."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    image = np.random.default_rng(0).integers(0, 256, (1500, 1500)).astype(np.uint8)
    cv2.resize(image, (700, 700), interpolation=cv2.INTER_AREA)
    cv2.warpAffine(image, cv2.getRotationMatrix2D((750, 750), 33, 1), (1500, 1500))
    images = torch.randn(16, 1, 64, 64, requires_grad=True)
    torch.nn.Conv2d(1, 8, 5)(images).sum().backward()
    with no_hang(longest=300):
        yield
    torch.set_num_threads(before)


class Telling(CellBatches):
    """Batches that tell how many threads torch and OpenCV have where they are made."""

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        threads = torch.tensor([torch.get_num_threads(), cv2.getNumThreads()])
        return {**super().__getitem__(key), "threads": threads}


def batches(fold: Fold, workers: int) -> list[dict[str, Tensor]]:
    augmentation = Augmentation(
        flips=True, rotate=180, brightness=0.1, contrast=0.1, seed=3, cells=len(fold.cells)
    )
    images = CellImages(fold.cells, augmentation)
    data = HEp2DataModule(images, fold.cells.labels, fold.split, 16, seed=3, workers=workers)
    data.batches = Telling(images, fold.cells.labels)
    return list(data.train_dataloader())


def test_a_worker_has_one_thread_and_makes_the_same_batches(fold: Fold) -> None:
    alone, helped = batches(fold, workers=0), batches(fold, workers=2)
    assert {tuple(batch.pop("threads").tolist()) for batch in alone} == {(2, 1)}
    assert {tuple(batch.pop("threads").tolist()) for batch in helped} == {(1, 1)}
    assert len(alone) == len(helped)
    for one, other in zip(alone, helped, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_workers_are_forked_in_a_training_on_two_threads(configure: Configure) -> None:
    short = ("stage=cnn", "stage.epochs=1", "model.network.widths=[2,2,4,4]")
    runs = [fit(configure(*short, f"name=w{n}", f"data.workers={n}")) for n in (0, 2)]
    states = [torch.load(run.last, weights_only=True)["state_dict"] for run in runs]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert runs[0].predictions.read_bytes() == runs[1].predictions.read_bytes()


@pytest.mark.parametrize("size", [64, 1024])
def test_no_pixel_hangs_on_the_number_of_threads(size: int) -> None:
    image = np.random.default_rng(1).integers(0, 65536, (1, size, size)).astype(np.uint16)
    augmentation = Augmentation(
        flips=True, rotate=180, brightness=0.1, contrast=0.1, seed=0, cells=1
    )
    one = augmentation(image, 0, np.zeros(1, np.int64))
    try:
        cv2.setNumThreads(2)
        two = augmentation(image, 0, np.zeros(1, np.int64))
    finally:
        cv2.setNumThreads(0)
    assert np.array_equal(one, two)
