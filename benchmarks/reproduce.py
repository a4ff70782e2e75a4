"""What `make reproduce` costs beside its arithmetic.

    python -m benchmarks reproduce

The commands of `make reproduce` (sweep over both stages, then the report) in new folders, against
the bare compute of the same epochs: the training steps and validation passes of every fold, and the
encoding, in one process, by bare loops with everything we know, cells simulated before, no file,
log or picture written. Neither side tunes: trials are epochs like others, and would only hide what
else there is. Both calibrate. To fit into minutes: one row, dcae_mlp, with the epochs of the
longest, and an encoder a fold, so that both cores are at work as in the whole; FOLDS folds instead
of five, so that what happens once (the simulation of the cells, the report) weighs two and a half
times as much; one run of each side instead of five; and of the bare epochs, which all cost the
same, MEASURED.
"""

import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.bare import bare_epochs
from benchmarks.measure import ROOT, Row, configured

FOLDS = 2
MEASURED = 6
EXPERIMENT = ("experiment=dcae_mlp", "data=synthetic", "protocol=specimen", "tuning.grid=null",
              "stage.epochs=60", "trainer.precision=32-true")  # fmt: skip


def rows() -> list[Row]:
    """One row."""
    from hep2.processor import keep_freed_memory

    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        _fold(folder, 0)  # the bare side finds its cells ready; ours make them
        bare = sum(_bare(folder, fold) for fold in range(FOLDS))
        ours = _ours(folder)
    return [
        Row(
            f"make reproduce ({FOLDS} folds) against the bare compute of its epochs",
            ours,
            bare,
            "s",
            ours / bare,
            1.15,
            at_least=False,
        )
    ]


def _ours(folder: str) -> float:
    """The two commands of the Makefile, as a user's processes."""
    folds = ",".join(map(str, range(FOLDS)))
    places = [f"runs_dir={folder}/runs"]
    sweep = ["stage=dcae,head_plain", f"fold={folds}", "name=reproduce", f"cache_dir={folder}/new"]
    sweep.append("hydra.launcher.n_jobs=2")
    commands = [
        ["train.py", "-m", *EXPERIMENT, *sweep, *places],
        ["evaluate.py", "name=reproduce", *places, f"reports_dir={folder}/reports"],
    ]
    started = time.perf_counter()
    for command in commands:
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def _fold(folder: str, fold: int, stage: str = "head_plain") -> Any:
    """Configuration and cells of a fold."""
    from hep2.data.fold import open_fold

    cfg = configured(*EXPERIMENT, f"stage={stage}", f"fold={fold}", f"cache_dir={folder}/bare")
    return cfg, open_fold(cfg)


def _bare(folder: str, fold: int) -> float:
    """Both stages of a fold."""
    seconds, latents = _bare_encoder(folder, fold)
    return seconds + _bare_head(folder, fold, latents)


def _bare_encoder(folder: str, number: int) -> tuple[float, Any]:
    """Stage 1 of a fold, and the mean latents of all cells, by bare loops."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    from hep2.data.inputs import CellImages
    from hep2.data.views import ORIENTATIONS, oriented
    from hep2.nets.dcae import Decoder, Encoder
    from hep2.stages.autoencoder import augmented_images

    cfg, fold = _fold(folder, number, "dcae")
    augmented, plain = augmented_images(cfg, fold), CellImages(fold.cells)
    widths, size = list(cfg.model.network.widths), cfg.data.image_size
    net = torch.nn.Sequential(Encoder(size, widths), Decoder(size, widths))
    net.to(memory_format=torch.channels_last)
    seconds = bare_epochs(
        net,
        cfg.stage.epochs,
        [fold.split.train, fold.split.val],
        cfg.stage.batch_size,
        lambda cells, epoch: (augmented.gather(cells, epoch),) * 2,
        F.mse_loss,
        MEASURED,
    )
    started = time.perf_counter()
    latents = []
    with torch.inference_mode():
        net.eval()
        for images in plain.gather(np.arange(len(fold.cells)), None).split(256):
            turned = [net[0](oriented(images, turn)) for turn in range(ORIENTATIONS)]
            latents.append(torch.stack(turned).mean(dim=0))
        torch.cat([net(part) for part in plain.gather(fold.split.test, None).split(256)])
    return seconds + time.perf_counter() - started, torch.cat(latents)


def _bare_head(folder: str, fold: int, latents: Any) -> float:
    """The head of a fold by a bare loop, and those that calibrate it."""
    import torch
    from torch.nn import functional as F

    from hep2.nets.mlp import MLP

    cfg, opened = _fold(folder, fold)
    labels = torch.from_numpy(opened.cells.labels)
    settings = {key: cfg.head[key] for key in ("dropout", "batch_norm")}
    head = MLP(latents.shape[1], len(opened.cells.classes), list(cfg.head.widths), **settings)
    # Each inner fold is a training on the others: f of them cost f - 1 times the head itself.
    return max(1, cfg.stage.calibration.folds) * bare_epochs(
        head,
        cfg.stage.epochs,
        [opened.split.train, opened.split.val],
        cfg.stage.batch_size,
        lambda cells, epoch: (latents[cells].clone(), labels[cells]),
        F.cross_entropy,
        MEASURED,
    )
