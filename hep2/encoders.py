"""Which encoders a run starts from, and where they are."""

from pathlib import Path

from omegaconf import DictConfig

from hep2.errors import HEp2Error
from hep2.naming import encoders_of, path_of
from hep2.rundir import RunDir


def encoder_runs(cfg: DictConfig) -> list[RunDir]:
    """The runs that must be finished before this one can start."""
    if cfg.encoder is not None:
        return []
    return [RunDir(path_of(cfg, f"{stage}-{model}")) for stage, model in encoders_of(cfg).items()]


def encoder_paths(cfg: DictConfig, selected: bool) -> list[Path]:
    """The checkpoints of the encoders that a run starts from.

    Args:
        cfg: the run's configuration.
        selected: whether validation chose among the epochs, or the last one counts.

    Raises:
        HEp2Error: an encoder's own run is not finished.
    """
    stages = encoders_of(cfg)
    if not stages:
        return []
    if cfg.encoder is not None:
        if len(stages) != 1:
            raise HEp2Error(f"encoder={cfg.encoder} is one checkpoint, needed are {len(stages)}")
        return [Path(cfg.encoder)]
    runs = encoder_runs(cfg)
    for run, (stage, model) in zip(runs, stages.items(), strict=True):
        if not run.finished:
            state = "is not finished" if run.config.is_file() else "does not exist"
            raise HEp2Error(
                f"stage={cfg.stage.name} needs the encoder of fold {cfg.fold}, but {run.path} "
                f"{state}; train it first: {train_command(cfg, stage, model)}"
            )
    return [run.best if selected else run.last for run in runs]


def train_command(cfg: DictConfig, stage: str, model: str) -> str:
    """The command that runs another stage of the same experiment."""
    words = {
        "stage": stage,
        "model": model,
        "data": cfg.data.name,
        "data.root": cfg.data.get("root"),
        "protocol": cfg.protocol.name,
        "fold": cfg.fold,
        "seed": cfg.seed,
        "name": cfg.name,
    }
    given = [f"{key}={value}" for key, value in words.items() if value is not None]
    return " ".join(["python train.py", *given])
