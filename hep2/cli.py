"""The edge to the user: what is wrong is said in one sentence, and the exit code tells whose fault.

Exit codes: 0 done; 1 an input, a file or a setting's value is wrong; 2 the command line is wrong.
Any other exception is a bug and keeps its traceback.
"""

import os
import re
import sys
from collections.abc import Callable

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from hep2.errors import HEp2Error

# Hydra hands its exceptions over instead of printing parts of them and leaving.
os.environ.setdefault("HYDRA_FULL_ERROR", "1")


def main(program: Callable[[], None]) -> None:
    """Run a Hydra program, and turn errors that are the user's to mend into one sentence."""
    try:
        program()
    except HEp2Error as error:
        _leave(str(error), 1)
    except (HydraException, OmegaConfBaseException) as error:
        _leave(_explained(error), 2)
    except KeyboardInterrupt:
        _leave("interrupted; the same command goes on from the last whole epoch", 130)


def _leave(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


def _explained(error: BaseException) -> str:
    """Hydra's or OmegaConf's complaint without its internals."""
    root = error
    while isinstance(root.__cause__, HEp2Error | HydraException | OmegaConfBaseException):
        root = root.__cause__
    if isinstance(root, HEp2Error):
        return str(root)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not re.match(r"(full_key|object_type|reference_type)", line)]
    return "; ".join(kept)
