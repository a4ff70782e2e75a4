"""What the cache of latents brings, and how fast a head learns on it.

    python -m benchmarks head

An autoencoder is trained for one epoch; then six processes take turns with its head
(conf/stage/head_plain.yaml, 40 epochs, batches of 128 as on real cells, one orientation, without
dropout, calibration and outside loggers). The last two sides say how far any program could get:

    ours     `hep2.run.fit`, as train.py calls it, with an empty cache: every cell is encoded once.
    in loop  the same stage and Trainer fed with images, so that the encoder runs in every epoch.
             One and three epochs are measured, and 40 calculated: epochs cost the same.
    epochs   the 40 epochs of ours alone: Trainer, validation and checkpoints, latents at hand.
    sklearn  scikit-learn's MLPClassifier on the same latents in float32: same layers, batch,
             epochs and Adam, no validation, no checkpoint.
    bare     the same epochs and validations in a bare loop: no Trainer, log or checkpoint. Ten are
             measured, and 40 calculated.
    encoding every cell once, and nothing else.
"""

import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.bare import bare_epochs
from benchmarks.measure import Row, answer, configured, medians, processes, wait_for_turn

if TYPE_CHECKING:
    from hep2.stages.classifier import HeadStage

SETTINGS = (
    "data=synthetic",
    "data.source.cells=2000",
    "logger=csv",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "~callbacks.pictures",
    "~callbacks.progress",
)
HEAD = (
    "stage=head_plain",
    "stage.batch_size=128",
    "features.orientations=1",
    "stage.calibration.folds=0",
    "head.dropout=0",
    "overwrite=true",
)
ENCODER = ("stage=dcae", "stage.batch_size=64", "stage.epochs=1")
SIDES = ("ours", "in loop", "epochs", "sklearn", "bare", "encoding")


def rows() -> list[Row]:
    """Two rows, each with the best that is possible."""
    from hep2.run import fit

    with tempfile.TemporaryDirectory() as folder:
        fit(configured(*ENCODER, *SETTINGS, *_places(folder, "cells")))
        for side in SIDES:
            shutil.copytree(f"{folder}/cells", f"{folder}/{side}")
        with processes("benchmarks.head", {name: (name, folder) for name in SIDES}) as running:
            seconds = medians(running)
    in_loop, sklearn, bare = (seconds[side] for side in ("in loop", "sklearn", "bare"))
    whole, alone = "head stage: encoding once", "head epochs on latents"
    return [
        _row(f"{whole} against encoding in every epoch", seconds["ours"], in_loop, 10),
        _row(f"{whole} in a bare loop, the floor", seconds["encoding"] + bare, in_loop, None),
        _row(f"{alone} against MLPClassifier", seconds["epochs"], sklearn, 1.5),
        _row(f"{alone} in a bare loop, the floor", bare, sklearn, None),
    ]


def _row(name: str, ours: float, other: float, target: float | None) -> Row:
    return Row(name, ours, other, "s", other / ours, target, at_least=True)


def _places(folder: str, side: str) -> list[str]:
    return [f"runs_dir={folder}/runs", f"cache_dir={folder}/{side}"]


def _stage(folder: str, side: str, *overrides: str) -> "HeadStage":
    """The head's stage, latents at hand."""
    from hep2.data.fold import open_fold
    from hep2.rundir.directory import RunDir
    from hep2.stages.classifier import head

    cfg = configured(*HEAD, *SETTINGS, *_places(folder, side), *overrides)
    return head(cfg, open_fold(cfg), RunDir(Path(folder) / side))  # type: ignore[return-value]


def ours(folder: str) -> float:
    """The whole stage, encoding included."""
    from hep2.run import fit

    cfg = configured(*HEAD, *SETTINGS, *_places(folder, "ours"))
    _forget_latents(folder, "ours")
    started = time.perf_counter()
    fit(cfg)
    return time.perf_counter() - started


def _forget_latents(folder: str, side: str) -> None:
    for latents in Path(folder, side).glob("features-*"):
        latents.unlink()


def in_loop(folder: str) -> float:
    """The same with the encoder in the loop; 40 epochs calculated from one and three."""
    from hep2.data.inputs import CellImages

    seconds = {}
    for epochs in (1, 3):
        stage = _stage(folder, "in loop", f"stage.epochs={epochs}")
        stage.run.last.unlink(missing_ok=True)
        stage.inputs = CellImages(stage.fold.cells)
        started = time.perf_counter()
        stage.train([])
        seconds[epochs] = time.perf_counter() - started
    every = configured(*HEAD).stage.epochs
    return seconds[1] + (every - 1) * (seconds[3] - seconds[1]) / 2


def epochs(folder: str) -> float:
    """The epochs alone."""
    stage = _stage(folder, "epochs")
    stage.run.last.unlink(missing_ok=True)
    started = time.perf_counter()
    stage.train([])
    return time.perf_counter() - started


def sklearn(folder: str) -> float:
    """The same head and epochs in scikit-learn."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    stage = _stage(folder, "sklearn")
    train, labels = stage.fold.split.train, stage.fold.cells.labels
    latents = stage.inputs.gather(train, epoch=0).numpy()
    cfg = stage.cfg
    network = MLPClassifier(
        hidden_layer_sizes=tuple(cfg.head.widths),
        batch_size=cfg.stage.batch_size,
        max_iter=cfg.stage.epochs,
        n_iter_no_change=cfg.stage.epochs,
        tol=0,
        random_state=0,
    )
    warnings.simplefilter("ignore", ConvergenceWarning)
    started = time.perf_counter()
    network.fit(latents, labels[train])
    return time.perf_counter() - started


def bare(folder: str) -> float:
    """The epochs and validations alone, by the best bare loop."""
    import torch
    from torch.nn import functional as F

    from hep2.nets.mlp import MLP

    stage = _stage(folder, "bare")
    split, cfg = stage.fold.split, stage.cfg
    labels = torch.from_numpy(stage.fold.cells.labels)
    net = MLP(stage.inputs.size, len(stage.fold.cells.classes), list(cfg.head.widths))

    def drawn(cells: Any, epoch: int | None) -> Any:
        return stage.inputs.gather(cells, epoch), labels[cells]

    epochs, parts = cfg.stage.epochs, [split.train, split.val]
    return bare_epochs(net, epochs, parts, cfg.stage.batch_size, drawn, F.cross_entropy, 10)


def encoding(folder: str) -> float:
    """Every cell once."""
    from hep2.data.fold import open_fold
    from hep2.features.extraction import features_of

    cfg = configured(*HEAD, *SETTINGS, *_places(folder, "encoding"))
    fold = open_fold(cfg)
    _forget_latents(folder, "encoding")
    started = time.perf_counter()
    features_of(cfg, fold)
    return time.perf_counter() - started


def main(side: str, folder: str) -> None:
    """Serve one side."""
    from hep2.processor import keep_freed_memory

    keep_freed_memory()
    os.environ["TQDM_DISABLE"] = "1"
    measure: dict[str, Callable[[str], float]] = {
        "ours": ours,
        "in loop": in_loop,
        "epochs": epochs,
        "sklearn": sklearn,
        "bare": bare,
        "encoding": encoding,
    }
    while True:
        wait_for_turn()
        answer(measure[side](folder))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
