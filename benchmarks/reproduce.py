"""What `make reproduce` costs beside its arithmetic.

    python -m benchmarks reproduce

The commands of `make reproduce` (sweep over both stages, then the report) in new folders, against
the bare compute of the same epochs: the training steps and validation passes of every fold, and the
encoding, in one process, by bare loops with everything we know, cells simulated before, no file,
log or picture written. Neither side tunes: trials are epochs like others, and would only hide what
else there is. To fit into minutes: FOLDS folds instead of five, so that what happens once (the
simulation of the cells, the report) weighs two and a half times as much as in the whole; one run of
each side instead of five; and of the bare epochs, which all cost the same, MEASURED.
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
EXPERIMENT = ("experiment=dcae_mlp", "data=synthetic", "protocol=published", "tuning.grid=null")


def rows() -> list[Row]:
    """One row."""
    from hep2.sweep.processes import keep_freed_memory

    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        for fold in range(FOLDS):  # the bare side finds its cells ready; ours make them
            _fold(folder, fold)
        bare = sum(_bare(folder, fold) for fold in range(FOLDS))
        ours = _ours(folder)
    return [
        Row(
            f"make reproduce ({FOLDS} folds) against the bare compute of its epochs",
            ours,
            bare,
            "s",
            ours / bare,
            1.25,
            at_least=False,
        )
    ]


def _ours(folder: str) -> float:
    """The two commands of the Makefile, as a user's processes."""
    folds = ",".join(map(str, range(FOLDS)))
    places = [f"runs_dir={folder}/runs"]
    sweep = ["stage=dcae,head", f"fold={folds}", "name=reproduce", f"cache_dir={folder}/new"]
    sweep.append("hydra.launcher.n_jobs=2")
    commands = [
        ["train.py", "-m", *EXPERIMENT, *sweep, *places],
        ["evaluate.py", "name=reproduce", *places, f"reports_dir={folder}/reports"],
    ]
    started = time.perf_counter()
    for command in commands:
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def _fold(folder: str, fold: int) -> Any:
    """Configuration and cells of a fold."""
    from hep2.data.fold import open_fold

    cfg = configured(*EXPERIMENT, f"fold={fold}", f"cache_dir={folder}/bare")
    return cfg, open_fold(cfg)


def _bare(folder: str, fold: int) -> float:
    """Both stages of a fold by bare loops."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    from hep2.data.augment import oriented
    from hep2.data.inputs import CellImages
    from hep2.nets.dcae import Decoder, Encoder
    from hep2.nets.mlp import MLP
    from hep2.stages.autoencoder import augmented_images

    cfg, opened = _fold(folder, fold)
    split, labels = opened.split, torch.from_numpy(opened.cells.labels)
    augmented, plain = augmented_images(cfg, opened), CellImages(opened.cells)
    widths, size = list(cfg.model.network.widths), cfg.data.image_size
    net = torch.nn.Sequential(Encoder(size, widths), Decoder(size, widths))
    net.to(memory_format=torch.channels_last)
    stage1 = configured(*EXPERIMENT, "stage=dcae").stage
    seconds = bare_epochs(
        net,
        stage1.epochs,
        [split.train, split.val],
        stage1.batch_size,
        lambda cells, epoch: (augmented.gather(cells, epoch),) * 2,
        F.mse_loss,
        MEASURED,
    )
    started = time.perf_counter()
    latents = {}
    with torch.inference_mode():
        net.eval()
        for cells, turns in ((split.train, cfg.features.orientations), (split.val, 1)):
            for turn in range(turns):
                images = oriented(plain.gather(cells, None), turn)
                parts = [net[0](part) for part in images.split(256)]
                latents[len(cells), turn] = torch.cat(parts)
        torch.cat([net(part) for part in plain.gather(split.test, None).split(256)])
    seconds += time.perf_counter() - started
    head = MLP(net[0].latent_size, len(opened.cells.classes), list(cfg.head.widths))

    def drawn(cells: Any, epoch: int | None) -> Any:
        part = split.train if epoch is not None else split.val
        turn = 0 if epoch is None else epoch % cfg.features.orientations
        rows = np.searchsorted(part, cells)
        return latents[len(part), turn][rows].clone(), labels[cells]

    epochs, size, parts = cfg.stage.epochs, cfg.stage.batch_size, [split.train, split.val]
    return seconds + bare_epochs(head, epochs, parts, size, drawn, F.cross_entropy, MEASURED)
