"""The cells that a run has learned from and that look to it most like another cell."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from hydra.errors import InstantiationException
from numpy.typing import NDArray
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from hep2.data.cells import Cells
from hep2.data.views import in_unit_range
from hep2.errors import HEp2Error
from hep2.files import progress_bar
from hep2.prediction.cells import BATCH
from hep2.prediction.member import members_of
from hep2.prediction.models import Ensemble, opened_again
from hep2.rundir.directory import RunDir
from hep2.rundir.result import read_result


@dataclass(frozen=True)
class Neighbour:
    """A cell that was learned from."""

    id: str
    label: str
    specimen: str
    image: NDArray[np.uint8]  # (H, W)
    distance: float  # to the cell that was asked for


class TrainingCells:
    """The training cells of the first run of an ensemble, by the vectors of its representation.

    Distances are Euclidean, every column over its standard deviation among the training cells.
    """

    def __init__(self, ensemble: Ensemble, cells: Cells, positions: NDArray[np.int64]) -> None:
        self._ensemble, self._cells, self._positions = ensemble, cells, positions
        vectors = torch.cat(list(self._all_vectors()))
        self._spread = vectors.std(dim=0).clamp_min(1e-6)
        self._vectors = vectors / self._spread

    def _all_vectors(self) -> Iterator[Tensor]:
        starts = range(0, len(self._positions), BATCH)
        for start in progress_bar(starts, "training cells", len(starts)):
            images = self._cells.images[self._positions[start : start + BATCH]]
            yield _vectors(self._ensemble, torch.from_numpy(in_unit_range(images)))

    def nearest(self, image: NDArray[np.uint8], count: int) -> list[Neighbour]:
        """The nearest training cells of a cell, the nearest first.

        Shape: (H, W)
        """
        vector = _vectors(self._ensemble, torch.from_numpy(in_unit_range(image)[None, None]))
        distances = torch.cdist(vector / self._spread, self._vectors)[0]
        found = distances.topk(min(count, len(distances)), largest=False)
        places = zip(found.indices.tolist(), found.values.tolist(), strict=True)
        return [self._neighbour(int(self._positions[place]), far) for place, far in places]

    def _neighbour(self, cell: int, distance: float) -> Neighbour:
        cells = self._cells
        grey = np.rint(in_unit_range(cells.images[cell, 0]) * 255).astype(np.uint8)
        label = cells.classes[int(cells.labels[cell])]
        return Neighbour(str(cells.ids[cell]), label, str(cells.specimens[cell]), grey, distance)


def training_cells(ensemble: Ensemble) -> TrainingCells | str:
    """The training cells, or in a few words why there are none: the data set may be elsewhere."""
    path = ensemble.runs[0]
    if ensemble.handed_on:
        return "it was handed on without the data set that it learned from"
    result = read_result(RunDir(path).result)
    try:
        fold = opened_again(path, result)
    except (HEp2Error, InstantiationException, OmegaConfBaseException, KeyError) as error:
        why = " ".join(str(error.__cause__ or error).split())[:200]
        return f"the data set that it learned from cannot be opened here ({why})"
    if fold.provenance.get("split") != result.get("split_hash"):
        return "the split of the data set is not the one that it learned from"
    return TrainingCells(ensemble, fold.cells, fold.split.train)


def _vectors(ensemble: Ensemble, images: Tensor) -> Tensor:
    """What the first run makes of cells as they are.

    Shape: (B, 1, H, W) -> (B, D)
    """
    first = members_of(ensemble.network)[0]
    with torch.inference_mode():
        vectors: Tensor = first.representation(images, 1)
    return vectors
