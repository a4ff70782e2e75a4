"""Which settings of Lightning's Trainer work here, and what to do instead of those that do not.

A key that is in neither table is one of a newer Lightning: it is handed over unseen, and a test
asks for a decision.
"""

from collections.abc import Mapping
from typing import Any

from hep2.errors import HEp2Error, whole

# Handed to the Trainer as they are, whatever Lightning allows; some values are refused below.
WORKS = frozenset((
    "accelerator", "strategy", "devices", "num_nodes", "precision", "max_epochs", "min_epochs",
    "limit_train_batches", "limit_val_batches", "num_sanity_val_steps", "log_every_n_steps",
    "enable_progress_bar", "enable_model_summary", "accumulate_grad_batches", "gradient_clip_val",
    "gradient_clip_algorithm", "deterministic", "benchmark", "inference_mode", "profiler",
    "detect_anomaly", "sync_batchnorm", "reload_dataloaders_every_n_epochs",
    "enable_autolog_hparams",
))  # fmt: skip

EVERY_EPOCH = "every epoch is validated at its end, as validation chooses among the epochs"
LEARN_FROM_ALL = "protocol.validation=0 learns from all training specimens, for all epochs"
NO_CLOCK = (
    "the numbers would depend on the machine's speed: set stage.epochs, or end the command from "
    "outside (timeout 2h python train.py ...), and the same command goes on"
)

# The only values of other keys, and why.
ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "logger": ((None,), "choose logger=wandb, csv, or another of conf/logger"),
    "callbacks": ((None,), "name each one: +callbacks.mine._target_=module.Class"),
    "default_root_dir": ((None,), "set runs_dir"),
    "fast_dev_run": ((None, False, 0), "debug=fdr is the dry run"),
    "max_steps": ((None, -1), "training is counted in whole epochs: set stage.epochs"),
    "min_steps": ((None,), "training is counted in whole epochs: set +trainer.min_epochs"),
    "max_time": ((None,), NO_CLOCK),
    "limit_test_batches": ((None, 1.0), "all test cells are scored, once"),
    "limit_predict_batches": ((None, 1.0), "all test cells are scored, once"),
    "overfit_batches": (
        (None, 0, 0.0),
        "it would validate on training cells: +trainer.limit_train_batches=2 makes short epochs",
    ),
    "val_check_interval": ((None, 1.0), f"{EVERY_EPOCH}; {LEARN_FROM_ALL}"),
    "check_val_every_n_epoch": ((1,), f"{EVERY_EPOCH}; {LEARN_FROM_ALL}"),
    "enable_checkpointing": (
        (None, True),
        "a run goes on from its checkpoints and is scored by one: checkpoint_seconds says how "
        "often they are written",
    ),
    "use_distributed_sampler": (
        (False,),
        "our own order of the cells gives every device its share and repeats none",
    ),
    "barebones": ((None, False), "a run needs its checkpoints and metrics"),
    "plugins": ((None,), "trainer.precision and trainer.strategy choose them"),
    "model_registry": ((None,), "python evaluate.py task=export hands a network on"),
}

# As they may be written, and as Lightning calls them. Weights are float32 in all of them.
PRECISIONS = {
    "None": "32-true", "32-true": "32-true", "32": "32-true",
    "bf16-mixed": "bf16-mixed", "bf16": "bf16-mixed", "16-mixed": "16-mixed", "16": "16-mixed",
}  # fmt: skip
WHOLE_WEIGHTS = ("auto", "ddp", "single_device")  # beginnings of strategies' names
WHOLE_CLASSES = ("DDPStrategy", "SingleDeviceStrategy")  # ends of their _target_


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Refuse settings (plain values, of the group `trainer`) that cannot work, all at once.

    Raises:
        HEp2Error: the message names each key, its value and what to do instead.
    """
    if faults := trainer_faults(trainer):
        raise HEp2Error("; ".join(faults))


def trainer_faults(trainer: Mapping[str, Any]) -> list[str]:
    """What `check_trainer` refuses, a sentence a key; keys that are not given are not judged."""
    faults = []
    for key, value in trainer.items():
        only, why = ONLY.get(key, ((value,), ""))
        # Not by ==: 1 is one batch, 1.0 is all of them, and True is neither.
        if repr(value) not in map(repr, only):
            faults.append(f"trainer.{key}={value} is refused: {why}")
        elif key in RULES and (asked := RULES[key](value, trainer)):
            faults.append(f"trainer.{key}={value} {asked}")
    return faults


def batches_of_epoch(cfg: Any) -> int | float:
    """How many batches an epoch has at most, or which share of all: `stage.epoch_batches`.

    The trainer's own limit goes before it. HEp2Error where it is no number of batches.
    """
    most = cfg.stage.get("epoch_batches")
    if most is not None and not whole(most, 1):
        raise HEp2Error(
            f"stage.epoch_batches={most} must be a whole number, 1 or more, or null: all of them"
        )
    limit: int | float = cfg.trainer.get("limit_train_batches", most or 1.0)
    return limit


def precision_of(trainer: Mapping[str, Any]) -> str:
    """The precision, of a checked trainer, as Lightning calls it."""
    return PRECISIONS[str(trainer.get("precision"))]


def _precision(value: Any, trainer: Mapping[str, Any]) -> str:
    if str(value) not in PRECISIONS:
        return "is refused: weights are kept in float32; choose 32-true, bf16-mixed or 16-mixed"
    if PRECISIONS[str(value)] == "16-mixed" and trainer.get("accelerator") == "cpu":
        return "needs a GPU: choose bf16-mixed or 32-true"
    return ""


def _strategy(value: Any, trainer: Mapping[str, Any]) -> str:
    if isinstance(value, Mapping):
        good = str(value.get("_target_")).endswith(WHOLE_CLASSES)
    else:
        good = str(value).startswith(WHOLE_WEIGHTS)
    return "" if good else "is refused: a checkpoint holds whole networks; choose auto or ddp"


def _max_epochs(value: Any, trainer: Mapping[str, Any]) -> str:
    good = whole(value, 1)
    return "" if good else "(or stage.epochs) must be a whole number, 1 or more"


def _min_epochs(value: Any, trainer: Mapping[str, Any]) -> str:
    if value is not None and not whole(value, 0):
        return "must be a whole number, 0 or more"
    most = trainer.get("max_epochs")
    beyond = value is not None and whole(most, 1) and value > most
    return f"is more than stage.epochs, {most}: lower it" if beyond else ""


def _limit(value: Any, trainer: Mapping[str, Any]) -> str:
    share = type(value) is float and 0 < value <= 1
    good = value is None or share or whole(value, 1)
    return "" if good else "must be a number of batches, from 1, or a share of them, up to 1.0"


def _validation_limit(value: Any, trainer: Mapping[str, Any]) -> str:
    if not isinstance(value, bool) and value in (0, 0.0):
        return f"is refused: {EVERY_EPOCH}; {LEARN_FROM_ALL}"
    return _limit(value, trainer)


def _at_least(least: int, otherwise: str = "") -> Any:
    def rule(value: Any, trainer: Mapping[str, Any]) -> str:
        good = value is None or whole(value, least)
        return "" if good else otherwise or f"must be a whole number, {least} or more"

    return rule


def _clip(value: Any, trainer: Mapping[str, Any]) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return "" if value is None or number else "must be a number, 0 or more"


def _switch(value: Any, trainer: Mapping[str, Any]) -> str:
    return "" if value is None or isinstance(value, bool) else "must be true or false"


def _sync(value: Any, trainer: Mapping[str, Any]) -> str:
    on_gpu = trainer.get("accelerator") in ("gpu", "cuda")
    return _switch(value, trainer) or (
        "works on GPUs alone: add trainer.accelerator=gpu" if value and not on_gpu else ""
    )


RULES = {
    "precision": _precision,
    "strategy": _strategy,
    "max_epochs": _max_epochs,
    "min_epochs": _min_epochs,
    "limit_train_batches": _limit,
    "limit_val_batches": _validation_limit,
    "num_sanity_val_steps": _at_least(-1, "must be a number of batches, or -1 for all of them"),
    "log_every_n_steps": _at_least(0),
    "accumulate_grad_batches": _at_least(1),
    "reload_dataloaders_every_n_epochs": _at_least(0),
    "gradient_clip_val": _clip,
    "sync_batchnorm": _sync,
    **dict.fromkeys(
        ("enable_progress_bar", "enable_model_summary", "benchmark", "inference_mode",
         "detect_anomaly", "enable_autolog_hparams"),
        _switch,
    ),
}  # fmt: skip
