"""The schema of the top level: a misspelt key or a wrong type is an error at once.

Below the top level the constructors are the schema: an unknown argument is refused by them.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf

from hep2.processor import best_precision

_PACKAGE = Path(__file__).parent
INSTALLED = _PACKAGE / "programs" / "train.py"  # what `hep2 train` runs
# A wheel holds conf/ inside the package; in a checkout it stands beside it, as does train.py.
CONF, PROGRAM = (
    (_PACKAGE / "conf", INSTALLED)
    if (_PACKAGE / "conf").is_dir()
    else (_PACKAGE.parent / "conf", _PACKAGE.parent / "train.py")
)
IN_SWEEP = "HEP2_IN_SWEEP"  # set: a sweep has started this process and can wait
# Name one run of a tracker: not for the many jobs of a sweep.
ONE_RUN = ("WANDB_RUN_ID", "WANDB_RESUME", "MLFLOW_RUN_ID")
BLOT = "***"
_SECRET = re.compile(r"(api|access|private)_?key|token|secret|password", re.IGNORECASE)
_KEYS = ("WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD",
         "TRACKIO_WRITE_TOKEN", "HF_TOKEN")  # fmt: skip
_SHORTEST_KEY = 8  # characters; a shorter one would be blotted out of innocent words
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)|(?<=[?&]write_token=)[^&\s]+")


def redacted(node: Any) -> Any:
    """A configuration, as plain containers, without secrets.

    Blotted out are values under a key that names a secret (api_key, token, secret, password), the
    trackers' keys from the environment wherever they stand, and what an address has of them.
    """
    if isinstance(node, Mapping):
        return {
            key: BLOT if value and _SECRET.search(str(key)) else redacted(value)
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return [redacted(value) for value in node]
    return _without_keys(node) if isinstance(node, str) else node


def _without_keys(text: str) -> str:
    for key in filter(None, map(os.environ.get, _KEYS)):
        text = text.replace(key, BLOT) if len(key) >= _SHORTEST_KEY else text
    return _IN_ADDRESS.sub(BLOT, text)


def redacted_words(words: list[str]) -> list[str]:
    """The overrides of a command line without secrets."""
    return [
        f"{name}{equals}{BLOT if value and _SECRET.search(name) else redacted(value)}"
        for name, equals, value in (word.partition("=") for word in words)
    ]


@dataclass
class TrainConfig:
    """What `train.py` understands; values and meanings are in `conf/train.yaml`."""

    name: str = MISSING
    fold: int = MISSING
    seed: int = MISSING
    overwrite: bool = MISSING
    fail_fast: bool = MISSING
    compile: bool = MISSING
    recipe: int = MISSING
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


class OwnConf(SearchPathPlugin):
    """A user's own folder conf/ is searched before ours: the same name there takes its place."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put it first."""
        if (own := own_conf()) is not None:
            search_path.prepend("own", f"file://{own}")


def own_conf() -> Path | None:
    """The folder conf/ of the working directory, where it is another one than ours."""
    own = Path("conf").resolve()
    return own if own.is_dir() and own != CONF.resolve() else None


def conf_folders() -> list[Path]:
    """The folders conf/ that are searched, the first one first."""
    return [place for place in (own_conf(), CONF) if place]


def register() -> None:
    """Make known to Hydra what conf/ names, and a user's own folder: the schema, the precision."""
    ConfigStore.instance().store(name="train_schema", node=TrainConfig)
    OmegaConf.register_new_resolver("best_precision", best_precision, replace=True)
    Plugins.instance().register(OwnConf)


def composed(words: Sequence[str], hydra: bool = False) -> DictConfig:
    """The configuration that `train.py` gets with these overrides, perhaps with Hydra's own."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", list(words), return_hydra_config=hydra)


def called_by_name() -> bool:
    """Whether this process runs `hep2 train`, and not the train.py of a checkout."""
    return sys.argv[0] == str(INSTALLED)


def in_sweep() -> bool:
    """Whether this process does a job of a sweep, of our launcher or of another one of Hydra's."""
    several = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return several or IN_SWEEP in os.environ


def program_flags(hydra: Any) -> list[str]:
    """The flags of a command line that name another configuration file, or another folder of them.

    `hydra` is the node of that name.
    """
    flags = []
    if hydra.job.config_name != "train":
        flags += ["-cn", str(hydra.job.config_name)]
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            flags += ["-cd", str(source.path)]
    return flags


def override(key: str, value: Any) -> str:
    """`key=value` in Hydra's grammar, for plain values; a text is quoted where it must be."""
    return f"{key}={_written(value)}"


def _written(value: Any) -> str:
    if isinstance(value, str):
        plain_text = re.fullmatch(r"[A-Za-z_./][\w./+-]*", value, re.ASCII)
        if plain_text and value.lower() not in ("null", "true", "false", "nan", "inf"):
            return value
        return QuotedString(value, Quote.double).with_quotes()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_written, value)) + "]"
    return "null" if value is None else str(value).lower()


def is_estimator(head: DictConfig) -> bool:
    """Whether a head (conf/head) is one of `hep2.heads`, not a network."""
    return "estimator" in head


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys, the first part of which may be given."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    below = (flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items())
    return {key: value for one in below for key, value in one.items()}


def plain(node: Any) -> Any:
    """Plain containers: checkpoints and constructors never see a DictConfig."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def arguments(group: DictConfig) -> dict[str, Any]:
    """The settings of a group, plain, without what the group is called."""
    return {key: value for key, value in plain(group).items() if key != "name"}


def device(cfg: DictConfig) -> str:
    """Where the trainer would work, for what is done beside it: "cuda" or "cpu"."""
    import torch

    on_gpu = cfg.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "cuda" if on_gpu else "cpu"
