"""MCA as a torchmetrics metric, for validation while training."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanClassAccuracy(Metric):
    """Mean of the recalls of the classes present in the targets.

    torchmetrics' own macro accuracy also counts, as 0, a class that is only ever predicted; folds
    without a class would look worse than they are.

    Shape:
        logits (B, classes), targets (B,) -> ()
    """

    full_state_update = False
    higher_is_better = True

    hits: Tensor
    cells: Tensor

    def __init__(self, classes: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.add_state("hits", torch.zeros(classes), dist_reduce_fx="sum")
        self.add_state("cells", torch.zeros(classes), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a batch."""
        right = (logits.argmax(dim=1) == target).to(self.hits.dtype)
        self.hits.index_add_(0, target, right)
        self.cells.index_add_(0, target, torch.ones_like(right))

    def compute(self) -> Tensor:
        """The mean over the classes seen so far; NaN before any cell."""
        present = self.cells > 0
        return (self.hits[present] / self.cells[present]).mean()
