"""Whether loading keeps ahead of training.

    python -m benchmarks loading

The data module's batches with augmentation off against the batches that an autoencoder's training
step consumes, in one process, in turns.
"""

import tempfile
import time
from collections.abc import Iterator

from benchmarks.measure import Row, configured, medians

LOADED, TRAINED = 200, 4  # batches a turn


def rows() -> list[Row]:
    """One row."""
    from hep2.processor import keep_freed_memory

    keep_freed_memory()
    import torch
    from torch.nn import functional as F

    from hep2.data.datamodule import HEp2DataModule
    from hep2.data.fold import open_fold
    from hep2.data.inputs import CellImages
    from hep2.nets.dcae import Decoder, Encoder

    with tempfile.TemporaryDirectory() as folder:
        cfg = configured("stage=dcae", f"cache_dir={folder}")
        fold, size = open_fold(cfg), cfg.data.image_size
        images = CellImages(fold.cells)
        data = HEp2DataModule(
            images, fold.cells.labels, fold.split, cfg.stage.batch_size, cfg.seed, cfg.data.workers
        )
        loader = data.train_dataloader()
        widths = list(cfg.model.network.widths)
        net = torch.nn.Sequential(Encoder(size, widths), Decoder(size, widths))
        net.to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(net.parameters(), fused=True)

        def endless() -> Iterator[torch.Tensor]:
            while True:
                for batch in loader:
                    yield batch["image"]

        source = endless()

        def load() -> float:
            started = time.perf_counter()
            for _ in range(LOADED):
                next(source)
            return (time.perf_counter() - started) / LOADED

        def train() -> float:
            batches = [next(source) for _ in range(TRAINED)]
            started = time.perf_counter()
            for image in batches:
                optimizer.zero_grad(set_to_none=True)
                F.mse_loss(net(image), image).backward()
                optimizer.step()
            return (time.perf_counter() - started) / TRAINED

        seconds = medians({"load": load, "train": train})
    loaded, consumed = 1 / seconds["load"], 1 / seconds["train"]
    return [
        Row(
            "loading without augmentation against what training consumes",
            loaded,
            consumed,
            "batches/s",
            loaded / consumed,
            50,
            at_least=True,
        )
    ]
