"""The schema of the top level: a misspelt key or a wrong type is an error at once.

Below the top level the constructors are the schema: an unknown argument is refused by them.
"""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class TrainConfig:
    """What `train.py` understands; values and meanings stand in `conf/train.yaml`."""

    name: str = MISSING
    fold: int = MISSING
    seed: int = MISSING
    overwrite: bool = MISSING
    fail_fast: bool = MISSING
    compile: bool = MISSING
    checkpoint_seconds: float = MISSING
    runs_dir: str = MISSING
    cache_dir: str = MISSING
    encoder: str | None = MISSING
    stage: Any = MISSING
    data: Any = MISSING
    protocol: Any = MISSING
    augment: Any = MISSING
    model: Any = MISSING
    features: Any = MISSING
    head: Any = MISSING
    trainer: Any = MISSING
    callbacks: Any = MISSING
    tuning: Any = MISSING
    logger: Any = MISSING


def register() -> None:
    """Make the schema known to Hydra under the name that conf/train.yaml uses."""
    ConfigStore.instance().store(name="train_schema", node=TrainConfig)
