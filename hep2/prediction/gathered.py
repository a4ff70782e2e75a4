"""What is kept of a batch for its specimens and their page, as its cells go by.

It grows with the number of specimens: the few cells that a page shows, and one field of each. Of
every other cell its probabilities are kept.
"""

import heapq
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hep2.calls.unlike import is_unlike, unlike_of
from hep2.data.fields import FieldCell
from hep2.prediction.calls import Floats, Opinion, opinion
from hep2.prediction.cells import CellBatch
from hep2.prediction.fields import FieldBatch
from hep2.prediction.member import members_of
from hep2.prediction.models import Ensemble, Runs

SHOWN = 6  # cells of a strip
WHITEST = 16  # of an error map: the squared error over its limit that is shown white

Pixels8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Named:
    """What a cell is called."""

    id: str
    output: int  # the pattern
    probability: float  # of it
    novelty: float  # NaN: nobody can tell

    @property
    def unlike(self) -> bool:
        """Whether it is unlike the cells that the networks learned from."""
        return bool(is_unlike(self.novelty))


@dataclass(frozen=True)
class Shown:
    """A cell that a page shows."""

    cell: Named
    image: Pixels8  # (H, W), as the networks get it
    error: Pixels8 | None  # where the autoencoder cannot draw it, of cells unlike training


@dataclass(frozen=True)
class ShownField:
    """A field, with what each of its cells is called: None where it has no call."""

    id: str
    jpeg: bytes
    width: int  # of the field, in whose pixels outlines are
    height: int
    cells: list[tuple[FieldCell, Named | None]]


class Strip:
    """The best few of many cells."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Shown]] = []
        self._seen = 0

    def wants(self, score: float) -> bool:
        """Whether a cell of this score is among the best so far."""
        return len(self._heap) < SHOWN or score > self._heap[0][0]

    def add(self, score: float, cell: Shown) -> None:
        """Take a cell that is wanted."""
        self._seen += 1  # so that cells of equal scores are never compared
        push = heapq.heappush if len(self._heap) < SHOWN else heapq.heapreplace
        push(self._heap, (score, -self._seen, cell))

    def cells(self) -> list[Shown]:
        """The best first."""
        return [cell for *_, cell in sorted(self._heap, key=lambda item: item[:2], reverse=True)]


@dataclass
class Specimen:
    """One specimen's cells so far."""

    name: str
    probabilities: list[Floats] = field(default_factory=list)  # of each cell with a call
    novelties: list[float] = field(default_factory=list)  # of each; NaN: nobody can tell
    without: Counter[str] = field(default_factory=Counter)  # cells without a call, by reason
    fields: int = 0
    picture: ShownField | None = None  # the first that could be read
    typical: dict[int, Strip] = field(default_factory=dict)  # by what they are called
    unlike: Strip = field(default_factory=Strip)

    def opinion(self, ensemble: Ensemble) -> Opinion:
        """What is said of it."""
        classes, without = ensemble.classes, sum(self.without.values())
        rows = np.array(self.probabilities).reshape(-1, len(classes))
        strange = unlike_of(np.array(self.novelties))
        return opinion(rows, strange, without, classes, ensemble.calibration)


class Gathered:
    """The specimens of a batch, in the order in which they came.

    Args:
        ensemble: names cells, and may hold autoencoders.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self.specimens: dict[str, Specimen] = {}

    def add(self, batch: CellBatch, probabilities: Floats, novelties: Floats) -> None:
        """Note the cells of a batch; probabilities (n, classes) of those that have no problem."""
        names = list[Named | None]()
        rows = iter(zip(probabilities, novelties.tolist(), batch.image, strict=True))
        for cell, problem in zip(batch.cells, batch.problems, strict=True):
            specimen = self._of(cell.specimen)
            if problem:
                specimen.without[problem.partition(":")[0]] += 1
                names.append(None)
                continue
            row, novelty, image = next(rows)
            named = Named(cell.id, int(row.argmax()), float(row.max()), novelty)
            specimen.probabilities.append(row)
            specimen.novelties.append(novelty)
            self._show(specimen, named, image)
            names.append(named)
        if isinstance(batch, FieldBatch):
            self._picture(batch, names)

    def _of(self, name: str) -> Specimen:
        if name not in self.specimens:
            self.specimens[name] = Specimen(name)
        return self.specimens[name]

    def _show(self, specimen: Specimen, named: Named, image: Tensor) -> None:
        if named.unlike:
            strip, score = specimen.unlike, named.novelty
        else:
            strip = specimen.typical.setdefault(named.output, Strip())
            score = named.probability
        if strip.wants(score):
            error = None
            if named.unlike:  # a picture from 0 to 1, on the same scale for all cells
                errors = novelty_map(self.ensemble.network, image) / WHITEST
                error = _grey(errors.sqrt().clamp(0, 1))
            strip.add(score, Shown(named, _grey(image[0]), error))

    def _picture(self, batch: FieldBatch, names: list[Named | None]) -> None:
        specimen = self._of(batch.field.specimen)
        specimen.fields += 1
        if batch.cut and specimen.picture is None:
            cells = list(zip(batch.cut.cells, names, strict=True))
            size = (batch.cut.width, batch.cut.height)
            specimen.picture = ShownField(batch.field.id, batch.cut.picture, *size, cells)


def novelty_map(network: Runs, image: Tensor) -> Tensor:
    """The squared error of each pixel over the limit of its autoencoder; its mean is the novelty.

    Shape: (1, H, W), in [0, 1] -> (H, W)
    """
    maps = []
    with torch.inference_mode():
        for run in network:
            judges = [member.judge for member in members_of(run) if member.judge]
            each = [judge.error(image[None])[0].mean(dim=0) / judge.limit for judge in judges]
            maps.append(torch.stack(each).mean(dim=0))
    return torch.stack(maps).mean(dim=0)


def _grey(image: Tensor) -> Pixels8:
    return np.asarray((image * 255).round().to(torch.uint8).numpy())
