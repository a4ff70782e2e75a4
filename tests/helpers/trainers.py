"""Trainings of three steps an epoch, for what looks on."""

from collections.abc import Sequence

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger


def short_trainer(loggers: Sequence[Logger], max_epochs: int) -> Trainer:
    """A trainer that writes and shows nothing itself."""
    return Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        limit_train_batches=3,
        limit_val_batches=0,
        log_every_n_steps=1,
        logger=[*loggers],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
