"""A training whose loss is no number any more is stopped at once, and says which cells did it."""

from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch import Tensor

from hep2.errors import HEp2Error

Step = tuple[Tensor, Any, int, Tensor]  # the loss, when it is there, the step, the batch's cells


class NotFinite(HEp2Error):
    """A loss or a weight is NaN or infinite."""


class FiniteLoss(Callback):
    """Stops a training whose loss or weights are NaN or infinite; no checkpoint of them is kept.

    On a GPU the loss of a step is looked at when the next step has been handed over, so that the
    device never waits; on a CPU at once.

    Args:
        ids: the cells' IDs, in the order of the batches' "index".
    """

    def __init__(self, ids: NDArray[np.str_]) -> None:
        self.ids = ids
        self.waiting: Step | None = None

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: dict[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Look at the loss."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if not isinstance(loss, Tensor):
            return
        ready, self.waiting = self.waiting, _noted(loss, trainer.global_step, batch["index"])
        self._check(trainer, ready if loss.is_cuda else self.waiting)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the last loss and at the weights; checkpoints are written after this."""
        self._check(trainer, self.waiting)
        self.waiting = None
        bad = [
            name
            for name, value in pl_module.state_dict().items()
            if value.is_floating_point() and not _finite(value)
        ]
        if bad:
            raise NotFinite(
                f"after epoch {trainer.current_epoch + 1} weights are NaN or infinite "
                f"({', '.join(bad[:3])}); {_REMEDY}"
            )

    def _check(self, trainer: L.Trainer, step: Step | None) -> None:
        if step is None:
            return
        loss, event, number, cells = step
        if event is not None:
            event.synchronize()
        if torch.isfinite(loss):
            return
        names = [str(self.ids[cell]) for cell in cells.tolist()]
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise NotFinite(
            f"the loss is {float(loss)} in epoch {trainer.current_epoch + 1}, step {number}, on "
            f"the cells {', '.join(names[:10])}{more}; {_REMEDY}"
        )


def _finite(value: Tensor) -> bool:
    """Whether all values are finite; their extremes tell, and need no memory for an answer each."""
    return not value.numel() or bool(torch.isfinite(torch.stack(value.aminmax())).all())


_REMEDY = (
    "the last checkpoint is kept. Look at these images, lower stage.optimizer.lr, or set "
    "trainer.gradient_clip_val=1"
)


def _noted(loss: Tensor, step: int, cells: Tensor) -> Step:
    loss = loss.detach()
    if not loss.is_cuda:
        return loss, None, step, cells
    copy = torch.empty((), dtype=loss.dtype, pin_memory=True)
    copy.copy_(loss, non_blocking=True)
    event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return copy, event, step, cells
