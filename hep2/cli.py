"""The edge to the user: what is wrong is said in one sentence, and the exit code tells what kind.

Exit codes: 0 done; 1 an input, a file or a setting's value is wrong; 2 the command line is wrong;
130 interrupted; 143 asked to end (SIGTERM). Any other exception is a bug and keeps its traceback.
"""

import argparse
import difflib
import importlib
import inspect
import logging
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hep2.config import CONF, own_conf, plain
from hep2.errors import TERMINATED, HEp2Error, asked_to_end
from hep2.signals import heeded
from hep2.trainer import ONLY, WORKS, trainer_faults

UNFOUNDED = (  # advice of libraries: the run directory and the loaders are ours
    ".*Checkpoint directory .* exists and is not empty",
    ".*does not have many workers",
    ".*isinstance.treespec, LeafSpec.. is deprecated",
    ".*Total length of `list` across ranks is zero",
    ".*module.s. in eval mode at the start of training",  # the frozen encoder
    ".*You defined a `validation_step` but have no `val_dataloader`",
    ".*is smaller than the logging interval",  # metrics are of epochs
    "IProgress not found",  # of notebooks, and of a bar that is none of ours
)
GO_ON = "the same command goes on from the last checkpoint"
NOTES = ("full_key", "object_type", "reference_type", "See https://")  # OmegaConf's and Hydra's


def main(program: Callable[[], None], settings: str = "train") -> None:
    """Run the Hydra program of conf/<settings>.yaml; one sentence says why Hydra refuses it."""
    # Hydra then hands its exceptions over, instead of printing parts of them and leaving.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    # Half of the time of --help: Hydra copies its store of schemas for each group that it lists.
    # The store is only read, and what is loaded from it is copied again.
    store = ConfigStore.instance()
    store.__deepcopy__ = lambda memo: store  # type: ignore[attr-defined]
    inside = getattr(program, "__wrapped__", program).__code__
    try:
        program()
    except Exception as error:
        if any(frame.f_code is inside for frame, _ in traceback.walk_tb(error.__traceback__)):
            raise  # not the command line's fault
        own = own_conf()
        first = f" ({own} is searched before the settings that come with hep2)" if own else ""
        _leave(f"{explained(error, settings)}{first}", 2)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Leave with one sentence where an error is the user's to mend."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    ignore_unfounded()
    try:
        with heeded():
            yield
    except BaseException as error:
        if asked_to_end(error):
            if os.environ.get("LOCAL_RANK", "0") != "0":
                sys.exit(TERMINATED)  # the first rank says so for all
            _leave(f"asked to end (SIGTERM); {GO_ON}", TERMINATED)
        if isinstance(error, HEp2Error):
            _leave(str(error), 1)
        if isinstance(error, HydraException | OmegaConfBaseException):
            # A component's constructor refuses its settings, or a ${...} leads nowhere.
            _leave(explained(error), 1)
        # Lightning turns an interruption into exit code 1, and says nothing.
        if KeyboardInterrupt in (type(error), type(error.__context__)):
            _leave(f"interrupted; {GO_ON}", 130)
        raise


def parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Of the program `python -m <module>`, whose docstring describes it."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawTextHelpFormatter,
    )


def ignore_unfounded() -> None:
    """Leave out warnings that do not hold here."""
    for advice in UNFOUNDED:
        warnings.filterwarnings("ignore", advice)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of tags; a bad image gets its sentence


@contextmanager
def plainly() -> Iterator[None]:
    """Hydra's and OmegaConf's complaints as a HEp2Error of one sentence."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise HEp2Error(explained(error)) from error


def _leave(message: str, code: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def explained(error: BaseException, settings: str = "train") -> str:
    """A complaint of Hydra or OmegaConf as one sentence with its remedy."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = ", ".join(map(str, error.options))
        return f"{group}={option} is not an option: choose one of {options}"
    if unknown := re.match(r"Could not override '([^']*)'[^+]*(\+.*)?", str(error)):
        return _missing(unknown[1], unknown[2] or f"+{unknown[1]}=...", settings)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override, _without_notes(error))
    if ambiguous := re.match(r"Ambiguous value for argument '([^=]*)=(.*)'", str(error)):
        key, value = ambiguous.groups()
        ways = [shlex.quote(way) for way in (f"{key}=[{value}]", _quoted(key, value))]
        return (
            f"{key}={value} has a comma: a sweep over its parts needs -m; as a list write "
            f"{ways[0]}; as a text write {ways[1]}"
        )
    causes = [error]
    while (cause := causes[-1].__cause__) is not None and not isinstance(cause, OSError):
        causes.append(cause)
    ours = [cause for cause in causes if isinstance(cause, HEp2Error)]
    said = list(dict.fromkeys(_without_notes(cause) for cause in ours or causes if str(cause)))
    while len(said) > 1 and said[-1] in said[-2]:  # Hydra quotes what it passes on
        del said[-2]
    return "; ".join(said)


def _without_notes(error: BaseException) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return " ".join(line for line in lines if line and not line.startswith(NOTES))


def _unreadable(word: str, why: str) -> str:
    """An override that Hydra's grammar has no place for: mostly a text that needs quotes."""
    if not word.isprintable():
        return f"{word!r} cannot be read: take its invisible letters out"
    key, _, value = word.partition("=")
    quoted = _quoted(key, os.path.expanduser(value))
    if not value or value.startswith(("[", "{", "'", '"')):
        return f"{word} cannot be read: {why}"
    try:
        OverridesParser.create().parse_override(quoted)
    except HydraException:
        return f"{word} cannot be read: {why}"
    remedy = f"such a text needs quotes of its own; write {shlex.quote(quoted)}"
    return f"{word} cannot be read, for its brackets, quotes, = or the like: {remedy}"


def _quoted(key: str, value: str) -> str:
    return f"{key}={QuotedString(value, Quote.double).with_quotes()}"


def _missing(key: str, addition: str, settings: str) -> str:
    """Why a setting cannot be overridden, and what may have been meant.

    `addition` is the override that would add it, as Hydra advises: what a constructor or the
    trainer takes is legal, though no YAML names it.
    """
    parent, _, name = key.rpartition(".")
    default, chosen = _composed(settings)
    if parent == "trainer":
        given = OmegaConf.from_dotlist([addition.lstrip("+")])
        if faults := trainer_faults(plain(given.trainer)):
            return faults[0]
    if _takes(OmegaConf.select(chosen, parent) if parent else None, parent, name):
        return f"{key} is not set yet: add it by {shlex.quote(addition)}"
    if key in _keys(default):
        return f"there is no setting {key} with the options chosen (--cfg job shows all of them)"
    known = list(_keys(chosen))
    near = difflib.get_close_matches(key, known, n=1) or difflib.get_close_matches(
        name, {other.rpartition(".")[2] for other in known}, n=1
    )
    if near:
        return f"there is no setting {key}; did you mean {near[0]}?"
    advice = f"--cfg job shows all of them; {shlex.quote(addition)} adds it"
    return f"there is no setting {key} ({advice})"


def _takes(node: Any, place: str, name: str) -> bool:
    """Whether what a part of the configuration constructs has an argument of this name."""
    if place == "trainer":  # at once, without importing Lightning
        return name in WORKS or name in ONLY
    target = node.get("_target_") if isinstance(node, DictConfig) else None
    module, _, attribute = str(target).rpartition(".")
    try:
        constructor = getattr(importlib.import_module(module), attribute)
        return name in inspect.signature(constructor).parameters
    except Exception:  # there is none, or importing it fails in a dozen ways
        return False


def _composed(settings: str) -> tuple[DictConfig, DictConfig]:
    """The configuration without overrides, and with the options of this command line alone."""
    words = [word for word in sys.argv[1:] if "," not in word]
    groups = [word for word in words if "=" in word and (CONF / word.partition("=")[0]).is_dir()]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        default = compose(settings)
        try:
            return default, compose(settings, groups)
        except HydraException:  # an option of a folder of the user's own
            return default, default


def check_lists(cfg: DictConfig) -> None:
    """Refuse single values that the command line put where lists belong, all at once.

    Raises:
        HEp2Error: the message names each key and its value as a list.
    """
    if not HydraConfig.initialized():
        return
    hydra = HydraConfig.get()
    words = [
        word for word in hydra.overrides.task if word.partition("=")[0] in hydra.runtime.choices
    ]
    loader = GlobalHydra.instance().config_loader()
    default = loader.load_configuration(hydra.job.config_name, words, RunMode.RUN)
    wrong = []
    for key in _keys(default):
        if not key.startswith("hydra.") and OmegaConf.is_list(OmegaConf.select(default, key)):
            value = OmegaConf.select(cfg, key)
            if value is not None and not isinstance(value, ListConfig | DictConfig):
                wrong.append(f"{key}={value} must be a list: {shlex.quote(f'{key}=[{value}]')}")
    if wrong:
        raise HEp2Error("; ".join(wrong))


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, DictConfig):
        for key in map(str, node):
            yield prefix + key
            yield from _keys(node._get_node(key), f"{prefix}{key}.")
