"""Checkpoints on disk: written whole or not at all, kept by two, read by the safe loader only."""

import io
import logging
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from hep2.errors import HEp2Error
from hep2.features.checkpoint import read_checkpoint
from hep2.files import write_atomic
from hep2.rundir import RunDir

log = logging.getLogger(__name__)


class CheckpointFiles(TorchCheckpointIO):
    """How Lightning writes and reads checkpoints here.

    Its own way goes through the system's folder for temporary files, which may lie on another disk
    (then the checkpoint is copied, and can be torn), and does not wait for the disk. Here a saved
    checkpoint stays in memory until `write`: a head's epoch takes less time than the disk.
    """

    def __init__(self) -> None:
        self.waiting: dict[Path, Any] = {}

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        """Keep a copy for `write`; it takes the place of an earlier one for the same file."""
        self.waiting[Path(path)] = apply_to_collection(checkpoint, Tensor, _copied)

    def write(self) -> None:
        """Write what was kept, in the order in which the files were first named.

        Raises:
            HEp2Error: a file cannot be written.
        """
        for path, checkpoint in self.waiting.items():
            content = io.BytesIO()
            torch.save(checkpoint, content)
            write_atomic(path, content.getbuffer())
        self.waiting.clear()

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; whatever is asked for, no code of it is run.

        Raises:
            HEp2Error: it is damaged, or holds more than plain data.
        """
        return read_checkpoint(Path(path))


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def keep_previous(run: RunDir) -> None:
    """Before a new checkpoint is written: what is in `last.ckpt` becomes `previous.ckpt` too."""
    if run.last.is_file():
        same_file(run.last, run.previous)


def same_file(there: Path, name: Path) -> None:
    """Give a file a second name; checkpoints are replaced, never written into.

    Writing it twice would take as long as a head's whole epoch.
    """
    temporary = name.with_name(f".{name.name}.link")
    temporary.unlink(missing_ok=True)
    try:
        os.link(there, temporary)
    except OSError:  # a file system without second names
        write_atomic(name, there.read_bytes())
    else:
        os.replace(temporary, name)


@rank_zero_only
def _restore(damaged: Path, whole: Path) -> None:
    write_atomic(damaged, whole.read_bytes())


def resume_point(run: RunDir) -> Path | None:
    """The newest checkpoint of a run that is whole; None where it has not got so far.

    Every checkpoint falls on the end of an epoch, and what follows is a function of it and of the
    configuration: resuming from an older one repeats epochs, and ends in the same numbers.

    Raises:
        HEp2Error: no checkpoint is whole.
    """
    if not run.last.is_file():
        return None
    damage = []
    for path in (run.last, run.previous, run.best):
        try:
            epoch = read_checkpoint(path).get("epoch")
        except HEp2Error as error:
            damage.append(error)
            continue
        if damage:
            log.warning("%s is damaged: going on from %s, epoch %s", run.last, path, epoch)
            _restore(run.last, path)
        return path
    raise damage[0]
