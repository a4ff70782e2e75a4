"""The LightningDataModule: one fold of one data set."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from hep2.data.augment import augment_batch
from hep2.data.cells import Indices, numbered
from hep2.data.inputs import CellImages, Inputs
from hep2.data.protocols import Split
from hep2.errors import HEp2Error, whole

FOLDER = Path("/dev/shm")  # of Linux; other systems have no such folder, and no bound of its own
AHEAD = 2  # batches that each worker prepares: torch's default

Key = tuple[int | None, Indices]  # epoch (None in evaluation) and the cells of one batch


class CellBatches(Dataset[dict[str, Tensor]]):
    """Whole batches, gathered at once: {inputs.key: ..., "label": (B,), "index": (B,)}.

    Batches of images say as well which cells are of one specimen: "specimen", (B,), numbers.
    """

    def __init__(self, inputs: Inputs, labels: Indices) -> None:
        self.inputs = inputs
        self.labels = torch.from_numpy(labels)
        if isinstance(inputs, CellImages):
            self.specimens = torch.from_numpy(numbered(inputs.cells.specimens))

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        epoch, positions = key
        index = torch.from_numpy(positions)
        batch = {
            self.inputs.key: self.inputs.gather(positions, epoch),
            "label": self.labels[index],
            "index": index,
        }
        if isinstance(self.inputs, CellImages):
            batch |= {"specimen": self.specimens[index], **self.inputs.draws(positions, epoch)}
        return batch


class TrainingOrder(Sampler[Key]):
    """Shuffled batches whose order is a function of (seed, epoch) alone.

    A global batch is shared out among the devices, so that one device and four run the same
    experiment. Cells that do not fill the last batch wait for the next epoch, whose order differs.

    Args:
        cells: positions of the training cells.
        batch_size: cells of a global batch, over all devices.
        seed: the run's seed.
        batches_done: batches of this run that are finished already, over all epochs. A resumed run
            starts behind them; stock Lightning would start the shuffle again.
        rank: this device's number among `devices`.
        chances: of each cell to be drawn, with replacement, shape (len(cells),); None: every cell
            once an epoch.
        limit: how many batches an epoch has, or which share of them: Lightning's own limit would
            leave the rest of an epoch to the next.

    Raises:
        HEp2Error: the batch cannot be shared out evenly.
    """

    def __init__(
        self,
        cells: Indices,
        batch_size: int,
        seed: int,
        batches_done: Callable[[], int],
        rank: int = 0,
        devices: int = 1,
        chances: NDArray[np.float64] | None = None,
        limit: int | float = 1.0,
    ) -> None:
        if batch_size % devices or min(batch_size, len(cells)) < 2 * devices:
            raise HEp2Error(
                f"stage.batch_size={batch_size} is the batch over all devices and must be a "
                f"multiple of their number, {devices}; and there must be two cells for each, as "
                "networks normalise by batches"
            )
        self.cells, self.seed, self.batches_done = cells, seed, batches_done
        self.batch_size = min(batch_size, len(cells) - len(cells) % devices)
        self.share = slice(rank, None, devices)
        self.chances = chances
        asked = limit if isinstance(limit, int) else int(limit * len(self))
        self.steps = max(1, min(asked, len(self)))  # of an epoch

    def __len__(self) -> int:
        return len(self.cells) // self.batch_size

    def __iter__(self) -> Iterator[Key]:
        epoch, done = divmod(self.batches_done(), self.steps)
        rng = np.random.default_rng([self.seed, epoch])
        if self.chances is None:
            order = rng.permutation(self.cells)
        else:
            order = rng.choice(self.cells, len(self.cells), p=self.chances)
        for start in self.batch_size * np.arange(done, self.steps):
            yield epoch, order[start : start + self.batch_size][self.share]


class EvaluationOrder(Sampler[Key]):
    """Every cell once, in order; devices get disjoint shares (none is repeated to fill up)."""

    def __init__(self, cells: Indices, batch_size: int, rank: int = 0, devices: int = 1) -> None:
        if 0 < len(cells) < devices:
            raise HEp2Error(
                f"{len(cells)} validation cells cannot be shared among {devices} devices: "
                "lower trainer.devices"
            )
        self.cells, self.batch_size = cells[rank::devices], batch_size

    def __len__(self) -> int:
        return -(-len(self.cells) // self.batch_size)

    def __iter__(self) -> Iterator[Key]:
        for start in range(0, len(self.cells), self.batch_size):
            yield None, self.cells[start : start + self.batch_size]


def check_room(batch: int, workers: int) -> None:
    """Refuse batches (in bytes) of which those of all workers, and one being read, do not fit.

    Where one does not fit, its worker says so and goes on, and the trainer waits for it for ever.
    Containers often have 64 MB of shared memory or less.
    """
    needed = batch * (AHEAD * workers + 1)
    if workers and FOLDER.is_dir() and (free := shutil.disk_usage(FOLDER).free) < needed:
        raise HEp2Error(
            f"data.workers={workers} needs {needed / 1e6:.1f} MB of shared memory, but {FOLDER} "
            f"has {free / 1e6:.1f} MB: use data.workers=0, or enlarge it (docker run --shm-size=1g)"
        )


class HEp2DataModule(L.LightningDataModule):
    """Batches of the cells of one fold; the split is made by `hep2.data.protocols`.

    Inputs and labels (indices of patterns) are of all cells of the data set, the batch size is over
    all devices; the number of worker processes for training batches changes no result. `chances`
    are of the training cells, as of `TrainingOrder`.
    """

    def __init__(
        self,
        inputs: Inputs,
        labels: Indices,
        split: Split,
        batch_size: int,
        seed: int,
        workers: int = 0,
        chances: NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__()
        if not whole(batch_size, 1):
            raise HEp2Error(f"stage.batch_size={batch_size} must be a whole number, 2 or more")
        if not whole(workers, 0):
            raise HEp2Error(f"data.workers={workers} must be a whole number, 0 or more")
        self.batches, self.split = CellBatches(inputs, labels), split
        self.chances = chances
        self.batch_size, self.seed, self.workers = batch_size, seed, workers

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled batches of the training cells."""
        train, done = self.split.train, self._batches_done
        limit = self.trainer.limit_train_batches if self.trainer else 1.0
        place = (*self._place(), self.chances, limit)
        order = TrainingOrder(train, self.batch_size, self.seed, done, *place)
        one = self.batches[0, train[:1]]
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
            batch["image"] = self.batches.inputs.training_view(augmented)
        return batch

    def _place(self) -> tuple[int, int]:
        """This device's number and how many there are."""
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)

    def _batches_done(self) -> int:
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.ready if self.trainer else 0

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
