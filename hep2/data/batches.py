"""Batches: which cells stand in which one, on every device, in every epoch."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from hep2.data.inputs import CellImages, Inputs
from hep2.errors import HEp2Error

Positions = NDArray[np.int64]
Key = tuple[int | None, Positions]  # epoch (None in evaluation) and the cells of one batch


class CellBatches(Dataset[dict[str, Tensor]]):
    """Whole batches, gathered at once: {inputs.key: ..., "label": (B,), "index": (B,)}."""

    def __init__(self, inputs: Inputs, labels: Positions) -> None:
        self.inputs = inputs
        self.labels = torch.from_numpy(labels)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        epoch, positions = key
        index = torch.from_numpy(positions)
        batch = {
            self.inputs.key: self.inputs.gather(positions, epoch),
            "label": self.labels[index],
            "index": index,
        }
        if isinstance(self.inputs, CellImages):
            batch |= self.inputs.draws(positions, epoch)
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
            starts behind them; stock Lightning would start the shuffle anew.
        rank: this device's number.
        devices: how many devices share the work.

    Raises:
        HEp2Error: the batch cannot be shared out evenly.
    """

    def __init__(
        self,
        cells: Positions,
        batch_size: int,
        seed: int,
        batches_done: Callable[[], int],
        rank: int = 0,
        devices: int = 1,
    ) -> None:
        if batch_size % devices or len(cells) < devices:
            raise HEp2Error(
                f"stage.batch_size={batch_size} is the batch over all devices and must be a "
                f"multiple of their number, {devices}; and there must be a cell for each"
            )
        self.cells = cells
        self.batch_size = min(batch_size, len(cells) - len(cells) % devices)
        self.seed = seed
        self.batches_done = batches_done
        self.share = slice(rank, None, devices)

    def __len__(self) -> int:
        return len(self.cells) // self.batch_size

    def __iter__(self) -> Iterator[Key]:
        epoch, done = divmod(self.batches_done(), len(self))
        order = np.random.default_rng([self.seed, epoch]).permutation(self.cells)
        for batch in range(done, len(self)):
            start = batch * self.batch_size
            yield epoch, order[start : start + self.batch_size][self.share]


class EvaluationOrder(Sampler[Key]):
    """Every cell once, in order; devices get disjoint shares (none is repeated to fill up)."""

    def __init__(self, cells: Positions, batch_size: int, rank: int = 0, devices: int = 1) -> None:
        if 0 < len(cells) < devices:
            raise HEp2Error(
                f"{len(cells)} validation cells cannot be shared among {devices} devices: "
                "lower trainer.devices"
            )
        self.cells = cells[rank::devices]
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.cells) // self.batch_size)

    def __iter__(self) -> Iterator[Key]:
        for start in range(0, len(self.cells), self.batch_size):
            yield None, self.cells[start : start + self.batch_size]
