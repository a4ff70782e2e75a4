"""The edge to the user: what is wrong is said in one sentence, and the exit code tells what kind.

Exit codes: 0 done; 1 an input, a file or a setting's value is wrong; 2 the command line is wrong;
130 interrupted. Any other exception is a bug and keeps its traceback.
"""

import difflib
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from hep2.errors import HEp2Error

CONF = Path(__file__).parents[1] / "conf"
UNFOUNDED = (  # advice of libraries: the run directory and the loaders are ours
    ".*Checkpoint directory .* exists and is not empty",
    ".*does not have many workers",
    ".*isinstance.treespec, LeafSpec.. is deprecated",
    ".*Total length of `list` across ranks is zero",
    ".*module.s. in eval mode at the start of training",  # the frozen encoder
    ".*You defined a `validation_step` but have no `val_dataloader`",
)
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
        _leave(_explained(error, settings), 2)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Leave with one sentence where an error is the user's to mend."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    for advice in UNFOUNDED:
        warnings.filterwarnings("ignore", advice)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of tags; a bad image gets its sentence
    try:
        yield
    except HEp2Error as error:
        _leave(str(error), 1)
    except (HydraException, OmegaConfBaseException) as error:
        # A component's constructor refuses its settings, or a ${...} leads nowhere.
        _leave(_explained(error), 1)
    except (KeyboardInterrupt, SystemExit) as end:
        # Lightning turns an interruption into exit code 1, and says nothing.
        if isinstance(end, SystemExit) and not isinstance(end.__context__, KeyboardInterrupt):
            raise
        _leave("interrupted; the same command goes on from the last checkpoint", 130)


def _leave(message: str, code: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def _explained(error: BaseException, settings: str = "train") -> str:
    """A complaint of Hydra or OmegaConf as one sentence with its remedy."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        options = ", ".join(map(str, error.options))
        return f"{group}={option} is not an option: choose one of {options}"
    if unknown := re.match(r"Could not override '([^']*)'", str(error)):
        return f"there is no setting {unknown[1]}{_nearest(unknown[1], settings)}"
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


def _nearest(key: str, settings: str) -> str:
    """What may have been meant: a setting of the default configuration that is spelt like it."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        known = list(_keys(compose(settings)))
    if key in known:
        return " with the options chosen (--cfg job shows all of them)"
    near = difflib.get_close_matches(key, known, n=1) or difflib.get_close_matches(
        key.rpartition(".")[2], {name.rpartition(".")[2] for name in known}, n=1
    )
    return f"; did you mean {near[0]}?" if near else " (--cfg job shows all of them)"


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, DictConfig):
        for key in map(str, node):
            yield prefix + key
            yield from _keys(node._get_node(key), f"{prefix}{key}.")
