"""What the process that jobs are forked from does at its start: see `hep2.sweep.nursery`.

Imported there and nowhere else. Everything that a job imports late is named here as well.
"""

import atexit
import contextlib
import importlib
import os
import signal
from typing import Any

from hep2.allocator import keep_freed_memory
from hep2.sweep.processes import die_with_parent


def _end(*_: Any) -> None:
    """Leave at once, for the jobs end with this process; but not without exit handlers.

    W&B's removes a folder for pictures that importing it has made.
    """
    atexit._run_exitfuncs()
    os._exit(0)


os.setpgrp()  # Ctrl-C is for the sweep to deal with
signal.signal(signal.SIGTERM, _end)
die_with_parent(signal.SIGTERM)
keep_freed_memory()

import sklearn.decomposition  # noqa: E402
import sklearn.linear_model  # noqa: E402
import sklearn.manifold  # noqa: E402, F401
import wandb  # noqa: E402, F401

import hep2.evaluation.dashboard  # noqa: E402
import hep2.run  # noqa: E402, F401

with contextlib.suppress(ImportError):  # W&B's own, imported at the start of every run
    importlib.import_module("wandb.sdk.launch.inputs.internal")
