"""How fast is the autoencoder's training, against bare loops and against the machine's peak?

    python -m benchmarks training

Three processes take turns, one epoch a turn; each trains the same network (conf/model/dcae.yaml)
on the same cells with the same batch size and augmentation, then computes the validation loss.

    ours    `hep2.run.fit`, as train.py calls it: Trainer, callbacks, loggers, checkpoints and all.
    best    a bare loop with everything we know: channels_last, fused AdamW, whole batches by index,
            memory kept between steps. No checkpoint, no log, no picture, no progress bar.
    usual   a bare loop as it is usually written: contiguous tensors, Adam, a Dataset of single
            cells with the default collate, no workers; default memory settings.

Images a second are training images over the wall time of a whole epoch. The peak is that of float32
matrix products of 2048 x 2048 with all threads, measured in a fourth process in the same turns.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.measure import (
    ROOT,
    TURNS,
    Row,
    answer,
    configured,
    epochs_in_turns,
    medians,
    processes,
    wait_for_turn,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor, nn

    from hep2.data.fold import Fold
    from hep2.data.inputs import CellImages

CACHE = ROOT / ".cache"
SETTINGS = (
    "stage=dcae",
    "stage.batch_size=64",  # as on real cells; small synthetic folds want more steps
    "data=synthetic",
    f"cache_dir={CACHE}",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",  # of all sides, on every processor
)
SIDE = 2048  # of the matrices


def rows() -> list[Row]:
    """Three rows."""
    sides = {name: (name,) for name in ("ours", "best", "usual", "peak")}
    work, images = _work()
    with processes("benchmarks.training", sides) as running:
        seconds = medians(running)
    speed = {name: images / seconds[name] for name in ("ours", "best", "usual")}
    reached, peak = work / seconds["ours"] / 1e9, 2 * SIDE**3 / seconds["peak"] / 1e9
    return [
        _row("DCAE training: Trainer against the best bare loop", speed, "best", 0.98),
        _row("DCAE training: Trainer against the usual loop", speed, "usual", 1.6),
        Row(
            "DCAE training against the peak of matrix products",
            reached,
            peak,
            "GFLOP/s",
            reached / peak,
            0.60,
            at_least=True,
        ),
    ]


def _row(name: str, speed: dict[str, float], other: str, target: float) -> Row:
    ours, theirs = speed["ours"], speed[other]
    return Row(name, ours, theirs, "images/s", ours / theirs, target, at_least=True)


def _work() -> tuple[float, int]:
    """FLOPs and training images of one epoch with its validation."""
    import torch
    from torch.nn import functional as F
    from torch.utils.flop_counter import FlopCounterMode

    cfg, fold, _ = _setting()
    net, image = _network(cfg), torch.zeros(1, 1, cfg.data.image_size, cfg.data.image_size)
    with FlopCounterMode(display=False) as both_ways:
        F.mse_loss(net(image), image).backward()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        net(image)
    batch = cfg.stage.batch_size
    images = len(fold.split.train) // batch * batch
    validated = len(fold.split.val) * forward.get_total_flops()
    return images * both_ways.get_total_flops() + validated, images


def _setting() -> "tuple[DictConfig, Fold, CellImages]":
    """Configuration, fold and training images, as train.py has them."""
    from hep2.data.fold import open_fold
    from hep2.stages.autoencoder import augmented_images

    cfg = configured(*SETTINGS)
    fold = open_fold(cfg)
    return cfg, fold, augmented_images(cfg, fold)


def _network(cfg: "DictConfig") -> "nn.Sequential":
    from torch import nn

    from hep2.nets.dcae import Decoder, Encoder

    widths = list(cfg.model.network.widths)
    return nn.Sequential(Encoder(cfg.data.image_size, widths), Decoder(cfg.data.image_size, widths))


def ours() -> None:
    """Train by train.py's way; every epoch waits for its turn."""
    from hep2.processor import keep_freed_memory

    keep_freed_memory()
    from hep2.run import fit

    epochs_in_turns()
    with tempfile.TemporaryDirectory() as folder:
        fit(configured(*SETTINGS, f"runs_dir={folder}", f"stage.epochs={TURNS + 2}"))


def best() -> None:
    """The best bare loop."""
    from hep2.processor import keep_freed_memory

    keep_freed_memory()
    import numpy as np
    import torch

    cfg, fold, images = _setting()
    net = _network(cfg).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    size = cfg.stage.batch_size

    def batches(epoch: int) -> "Any":
        order = np.random.default_rng(epoch).permutation(fold.split.train)
        for start in range(0, len(order) - size + 1, size):
            yield images.gather(order[start : start + size], epoch)

    def validation() -> "Any":
        for start in range(0, len(fold.split.val), size):
            yield images.gather(fold.split.val[start : start + size], None)

    _serve(net, optimizer, batches, validation)


def usual() -> None:
    """The usual bare loop."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    cfg, fold, images = _setting()
    epoch_now = 0

    class SingleCells(Dataset["Tensor"]):
        """Cells one by one, as in most tutorials."""

        def __init__(self, cells: Any, training: bool) -> None:
            self.cells, self.training = cells, training

        def __len__(self) -> int:
            return len(self.cells)

        def __getitem__(self, row: int) -> "Tensor":
            epoch = epoch_now if self.training else None
            return images.gather(self.cells[row : row + 1], epoch)[0]

    net = _network(cfg)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    size = cfg.stage.batch_size
    training = DataLoader(
        SingleCells(fold.split.train, True), batch_size=size, shuffle=True, drop_last=True
    )
    validation = DataLoader(SingleCells(fold.split.val, False), batch_size=size)

    def batches(epoch: int) -> "Any":
        nonlocal epoch_now
        epoch_now = epoch
        return training

    _serve(net, optimizer, batches, lambda: validation)


def _serve(
    net: "nn.Module",
    optimizer: Any,
    batches: Callable[[int], Any],
    validation: Callable[[], Any],
) -> None:
    """A bare loop over epochs."""
    import torch
    from torch.nn import functional as F

    for epoch in range(sys.maxsize):
        wait_for_turn()
        started = time.perf_counter()
        net.train()
        for image in batches(epoch):
            optimizer.zero_grad(set_to_none=True)
            F.mse_loss(net(image), image).backward()
            optimizer.step()
        net.eval()
        with torch.inference_mode():
            sum(float(F.mse_loss(net(image), image)) * len(image) for image in validation())
        answer(time.perf_counter() - started)


def peak() -> None:
    """One product of square matrices: the fastest of 20, as a peak should be."""
    import torch

    first, second = torch.randn(2, SIDE, SIDE)
    while True:
        wait_for_turn()
        seconds = []
        for _ in range(20):
            started = time.perf_counter()
            first @ second
            seconds.append(time.perf_counter() - started)
        answer(min(seconds))


if __name__ == "__main__":
    {"ours": ours, "best": best, "usual": usual, "peak": peak}[sys.argv[1]]()
