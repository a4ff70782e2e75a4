import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hep2.data.augment import Augmentation
from hep2.data.cells import numbered
from hep2.data.datamodule import EvaluationOrder, HEp2DataModule, TrainingOrder
from hep2.data.fold import Fold
from hep2.data.inputs import CellImages
from hep2.errors import HEp2Error
from hep2.stages.classifier import even_chances

CELLS = np.arange(100, 150)


def batches(
    done: int = 0, seed: int = 0, size: int = 12, **place: int
) -> list[tuple[int, list[int]]]:
    order = TrainingOrder(CELLS, size, seed, lambda: done, **place)
    return [(epoch, positions.tolist()) for epoch, positions in order]


def test_an_epoch_is_whole_batches_of_different_training_cells() -> None:
    epoch = batches()
    assert [len(positions) for _, positions in epoch] == [12] * 4  # 50 cells: two are left over
    seen = [cell for _, positions in epoch for cell in positions]
    assert len(set(seen)) == 48 and set(seen) <= set(CELLS.tolist())
    assert seen != sorted(seen)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    assert batches() == batches()
    second = batches(done=4)
    assert [epoch for epoch, _ in batches()] == [0] * 4
    assert [epoch for epoch, _ in second] == [1] * 4
    assert [cells for _, cells in second] != [cells for _, cells in batches()]
    assert [cells for _, cells in batches(seed=1)] != [cells for _, cells in batches()]


def test_cells_left_over_in_one_epoch_come_in_others() -> None:
    seen = {cell for epoch in range(8) for _, cells in batches(done=4 * epoch) for cell in cells}
    assert seen == set(CELLS.tolist())


@pytest.mark.parametrize("done", range(12))
def test_resuming_after_k_batches_gives_exactly_the_rest_of_that_epoch(done: int) -> None:
    undisturbed = [batch for epoch in range(3) for batch in batches(done=4 * epoch)]
    end_of_epoch = 4 * (done // 4 + 1)
    assert batches(done=done) == undisturbed[done:end_of_epoch]


@pytest.mark.parametrize("devices", [2, 4])
def test_the_shares_of_devices_make_up_the_batch_of_one_device(devices: int) -> None:
    shares = [batches(done=4, rank=rank, devices=devices) for rank in range(devices)]
    for batch, whole in enumerate(batches(done=4)):
        parts = [share[batch] for share in shares]
        assert {epoch for epoch, _ in parts} == {whole[0]}
        assert {len(cells) for _, cells in parts} == {12 // devices}
        assert sorted(cell for _, cells in parts for cell in cells) == sorted(whole[1])


def test_few_cells_make_one_batch() -> None:
    order = TrainingOrder(CELLS[:5], 64, 0, lambda: 0)
    assert len(order) == 1
    ((_, positions),) = order
    assert sorted(positions) == CELLS[:5].tolist()


@pytest.mark.parametrize("batch_size, cells", [(10, 50), (12, 3)])
def test_a_batch_that_cannot_be_shared_out_is_refused(batch_size: int, cells: int) -> None:
    with pytest.raises(HEp2Error, match=f"stage.batch_size={batch_size} .* multiple .* 4"):
        TrainingOrder(CELLS[:cells], batch_size, 0, lambda: 0, rank=0, devices=4)


@settings(deadline=None)
@given(st.integers(4, 60), st.integers(1, 70), st.integers(1, 4))
def test_evaluation_reads_every_cell_once_over_all_devices(
    cells: int, size: int, devices: int
) -> None:
    seen: list[int] = []
    for rank in range(devices):
        order = EvaluationOrder(np.arange(cells), size, rank, devices)
        given = list(order)
        assert len(given) == len(order)
        assert all(epoch is None and 0 < len(positions) <= size for epoch, positions in given)
        seen += [int(cell) for _, positions in given for cell in positions]
    assert sorted(seen) == list(range(cells))


def test_evaluation_keeps_the_order_of_cells() -> None:
    (order,) = (EvaluationOrder(CELLS, 7),)
    assert np.array_equal(np.concatenate([positions for _, positions in order]), CELLS)


def test_fewer_validation_cells_than_devices_are_refused() -> None:
    with pytest.raises(HEp2Error, match=r"3 validation cells .* 4 devices: lower trainer.devices"):
        EvaluationOrder(CELLS[:3], 8, 0, 4)


def datamodule(fold: Fold, workers: int = 0) -> HEp2DataModule:
    augmentation = Augmentation(
        flips=True, rotate=180, brightness=0.1, contrast=0.1, seed=3, cells=len(fold.cells)
    )
    images = CellImages(fold.cells, augmentation)
    return HEp2DataModule(images, fold.cells.labels, fold.split, 16, seed=3, workers=workers)


def test_batches_hold_images_labels_and_positions(fold: Fold) -> None:
    data = datamodule(fold)
    for batch in [*data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()]:
        count = len(batch["index"])
        assert batch.keys() == {"image", "label", "index", "specimen"}
        assert batch["image"].shape == (count, 1, 64, 64)
        assert batch["image"].dtype == torch.float32
        assert batch["label"].dtype == batch["index"].dtype == torch.int64
        assert batch["image"].min() >= 0 and 0.1 < batch["image"].max() <= 1
        assert np.array_equal(batch["label"], fold.cells.labels[batch["index"]])
        assert np.array_equal(batch["specimen"], numbered(fold.cells.specimens)[batch["index"]])


def test_validation_and_test_read_each_cell_once_as_it_is(fold: Fold) -> None:
    data = datamodule(fold)
    for loader, part in (
        (data.val_dataloader(), fold.split.val),
        (data.test_dataloader(), fold.split.test),
    ):
        given = list(loader)
        assert np.array_equal(torch.cat([batch["index"] for batch in given]), part)
        images = torch.cat([batch["image"] for batch in given])
        assert np.allclose(images, fold.cells.images[part] / 255, atol=1e-7)


def test_training_reads_augmented_training_cells(fold: Fold) -> None:
    given = list(datamodule(fold).train_dataloader())
    index = torch.cat([batch["index"] for batch in given])
    assert set(index.tolist()) <= set(fold.split.train.tolist())
    images = torch.cat([batch["image"] for batch in given])
    unlike = np.abs(images.numpy() - fold.cells.images[index] / 255).max(axis=(1, 2, 3))
    assert np.all(unlike > 0.01)


def test_worker_processes_change_no_pixel(fold: Fold) -> None:
    alone, helped = (list(datamodule(fold, n).train_dataloader()) for n in (0, 2))
    assert len(alone) == len(helped) == len(fold.split.train) // 16
    for one, other in zip(alone, helped, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_sixteen_bits_are_scaled_by_their_own_full_scale() -> None:
    from hep2.data.cells import Cells

    images = np.full((1, 1, 8, 8), 65535, dtype=np.uint16)
    empty = np.array([""])
    cells = Cells(images, np.array(["a"]), np.array([0]), empty, empty, ("x",), "made", "0" * 16)
    assert torch.equal(CellImages(cells).gather(np.array([0]), None), torch.ones(1, 1, 8, 8))


def test_cells_are_drawn_by_their_chances() -> None:
    chances = np.zeros(len(CELLS))
    chances[[1, 4]] = 0.25, 0.75
    drawn = np.concatenate([
        cells for epoch in range(50)
        for _, cells in TrainingOrder(CELLS, 4, epoch, lambda: 0, chances=chances)
    ])  # fmt: skip
    assert set(drawn) == {CELLS[1], CELLS[4]}
    assert np.mean(drawn == CELLS[4]) == pytest.approx(0.75, abs=0.06)


def test_patterns_and_their_specimens_are_drawn_alike() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 3])
    specimens = np.array(["a", "a", "a", "b", "c", "c", "b", "d"])  # b is mixed
    chances = even_chances(labels, specimens)
    wanted = [1 / 18, 1 / 18, 1 / 18, 1 / 6, 1 / 12, 1 / 12, 1 / 6, 1 / 3]
    assert np.allclose(chances, wanted)


def test_cells_of_unknown_specimens_are_one_more() -> None:
    chances = even_chances(np.array([0, 0, 0, 1]), np.array(["", "a", "", ""]))
    assert np.allclose(chances, [1 / 8, 1 / 4, 1 / 8, 1 / 2])


def test_cells_of_a_specimen_share_a_number_and_unknown_ones_none() -> None:
    numbers = numbered(np.array(["b", "", "a", "b", ""]))
    assert numbers[0] == numbers[3] and len(set(numbers.tolist())) == 4
