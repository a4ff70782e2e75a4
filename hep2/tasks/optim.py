"""The optimiser and its schedule, from scalars."""

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from hep2.errors import check_number, one_of


def adamw(
    parameters: Iterable[nn.Parameter], steps: int, lr: float, weight_decay: float, schedule: str
) -> tuple[list[torch.optim.Optimizer], list[dict[str, object]]]:
    """AdamW with a learning rate that is scheduled by step, in the form that Lightning expects.

    `lr` is the highest, `steps` are those of the whole training. Schedules: "one_cycle" (up for
    30 % of the steps, then down to nearly zero), "cosine" (down to zero) or "constant".

    Raises:
        HEp2Error: unknown schedule, or a setting that is not a number.
    """
    check_number("stage.optimizer.lr", lr)
    check_number("stage.optimizer.weight_decay", weight_decay)
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)
    schedules: dict[str, Callable[[], LRScheduler] | None] = {
        "one_cycle": lambda: OneCycleLR(optimizer, max_lr=lr, total_steps=steps),
        "cosine": lambda: CosineAnnealingLR(optimizer, T_max=steps),
        "constant": None,
    }
    new = one_of("stage.optimizer.schedule", schedule, schedules)
    return [optimizer], [{"scheduler": new(), "interval": "step"}] if new else []
