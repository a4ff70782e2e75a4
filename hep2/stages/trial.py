"""A stage trained on some specimens of its training cells and tested by the others."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from hep2.data.cells import NOBODY, Indices
from hep2.data.protocols import Split
from hep2.rundir.directory import RunDir
from hep2.stages.training import S


@contextmanager
def trained_apart(
    stage: S, cfg: DictConfig, learning: Indices, held: Indices, scratch: RunDir
) -> Iterator[S]:
    """The stage with the settings of `cfg`, trained; both parts are rows of the training cells.

    Its test cells are those held out. What it writes into `scratch` is gone afterwards.
    """
    cfg = cfg.copy()
    cfg.callbacks = {}
    cfg.trainer.enable_progress_bar = False
    cells, leaky = stage.fold.split.train, stage.fold.split.leaky
    split = Split(cells[learning], NOBODY, cells[held], leaky, "an inner fold")
    _discard(scratch)  # what a killed process may have left
    trial = stage.variant(cfg, replace(stage.fold, split=split), scratch)
    trial.kept = False  # without validation cells the last epoch counts, and is at hand
    try:
        trial.train([])
        yield trial
    finally:
        _discard(scratch)


@rank_zero_only
def _discard(scratch: RunDir) -> None:
    shutil.rmtree(scratch.path, ignore_errors=True)
