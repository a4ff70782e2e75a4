"""The LightningDataModule: one fold of one data set."""

from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from hep2.data.augment_batch import augment_batch
from hep2.data.batches import CellBatches, EvaluationOrder, TrainingOrder
from hep2.data.inputs import CellImages, Inputs
from hep2.data.protocols import Split
from hep2.data.shared_memory import check_room


class HEp2DataModule(L.LightningDataModule):
    """Batches of the cells of one fold; the split is made by `hep2.data.protocols`.

    Args:
        inputs: images or cached features of all cells.
        labels: indices of patterns of all cells, shape (N,).
        split: which of them train, validate and test.
        batch_size: over all devices.
        seed: the run's seed.
        workers: processes that prepare training batches; their number changes no figure.
    """

    def __init__(
        self,
        inputs: Inputs,
        labels: NDArray[np.int64],
        split: Split,
        batch_size: int,
        seed: int,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.batches = CellBatches(inputs, labels)
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of the training cells."""
        rank, devices = self._place()
        order = TrainingOrder(
            self.split.train, self.batch_size, self.seed, self._batches_done, rank, devices
        )
        one = self.batches[0, self.split.train[:1]]
        cells = len(range(order.batch_size)[order.share])
        check_room(cells * sum(part.nbytes for part in one.values()), self.workers)
        return self._loader(order, self.workers)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The validation cells, each once over all devices; nothing where the fold has none."""
        if not len(self.split.val):
            return []
        return self._loader(EvaluationOrder(self.split.val, self.batch_size, *self._place()))

    def test_dataloader(self) -> DataLoader[Any]:
        """All test cells, each once: read it on one process."""
        return self._loader(EvaluationOrder(self.split.test, self.batch_size))

    def on_after_batch_transfer(
        self, batch: dict[str, Tensor], dataloader_idx: int
    ) -> dict[str, Tensor]:
        """Augment on the device, where the batch says so, and make the view of that."""
        if "draws" in batch and isinstance(self.batches.inputs, CellImages):
            augmented = augment_batch(batch["image"], batch.pop("draws"))
            batch["image"] = self.batches.inputs.view(augmented)
        return batch

    def _place(self) -> tuple[int, int]:
        """This device's number and how many there are."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _batches_done(self) -> int:
        if self.trainer is None:
            return 0
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.ready

    def _loader(self, order: Any, workers: int = 0) -> DataLoader[Any]:
        return DataLoader(
            self.batches,
            sampler=order,
            batch_size=None,  # the sampler yields whole batches
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            # Its own generator: making an iterator must not move the global one.
            generator=torch.Generator().manual_seed(self.seed),
        )
