"""The best bare loop: what epochs cost without Trainer, checkpoint, log or picture."""

import time
from typing import Any


def bare_epochs(
    net: Any, epochs: int, parts: list[Any], size: int, gather: Any, loss: Any, measured: int
) -> float:
    """Seconds of so many epochs, each with its validation.

    Args:
        net: what learns.
        epochs: how many.
        parts: positions of the training and of the validation cells.
        size: of a batch.
        gather: cells and epoch (None in validation) -> inputs and targets.
        loss: of outputs and targets.
        measured: so many epochs are run, which all cost the same; the rest is calculated.
    """
    import numpy as np
    import torch

    training, validation = parts
    size = min(size, len(training))
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    measured = min(epochs, measured)
    started = time.perf_counter()
    for epoch in range(measured):
        order = np.random.default_rng(epoch).permutation(training)
        net.train()
        for start in range(0, len(order) - size + 1, size):
            inputs, targets = gather(order[start : start + size], epoch)
            optimizer.zero_grad(set_to_none=True)
            loss(net(inputs), targets).backward()
            optimizer.step()
        net.eval()
        with torch.inference_mode():
            for start in range(0, len(validation), size):
                inputs, targets = gather(validation[start : start + size], None)
                loss(net(inputs), targets)
    return (time.perf_counter() - started) * epochs / measured
