"""Whether two configurations ask for the same run."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from hep2.naming import encoders_of
from hep2.redact import redacted

# Settings that change where or how fast a run is computed, not what it computes. A run may be
# resumed, or its encoder used, with others than it was started with.
INCIDENTAL = (
    "overwrite",
    "fail_fast",
    "checkpoint_seconds",
    "runs_dir",
    "cache_dir",
    "logger",
    "data.root",
    "data.source.root",
    "data.workers",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)

# Choices that a stage's task does not read: sweeping over them does not touch its runs.
UNREAD = {
    "autoencoder": ("head", "features", "encoder"),
    "head": ("augment",),
    "supervised": ("features",),
    "clustering": ("head", "features", "tuning"),
}


def configuration_differences(stored: Any, asked: DictConfig) -> list[str]:
    """What differs between two configurations of a run, as `key: this there, that asked`.

    Settings that do not change the run's numbers are left out: INCIDENTAL and UNREAD.
    """
    old, new = _flat(stored), _flat(redacted(OmegaConf.to_container(asked, resolve=True)))
    unread = UNREAD.get(asked.stage.task, ())
    if asked.stage.task == "head" and asked.model.name not in encoders_of(asked).values():
        unread = (*unread, "model")  # features that no network of that model makes
    if asked.stage.task == "head" and "estimator" in asked.head:
        unread = (*unread, "tuning")  # such a head has a grid of its own
    missing = "absent"
    return [
        f"{key}: {old.get(key, missing)} there, {new.get(key, missing)} asked"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, missing) != new.get(key, missing)
        and not _among(key, (*INCIDENTAL, *unread))
    ]


def _among(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(name + ".") for name in names)


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
