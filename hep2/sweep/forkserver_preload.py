"""What the process that jobs are forked from does at its start; see `hep2.sweep.forkserver`."""

import atexit
import contextlib
import importlib
import os
import signal
from typing import Any

from hep2.processor import keep_freed_memory, wait_asleep
from hep2.signals import die_with_parent

RUN = (
    "hep2.run",
    "hep2.evaluation.report",
    "sklearn.decomposition",
    "sklearn.linear_model",
    "sklearn.manifold",
)
WANDB = ("wandb", "wandb.sdk.launch.inputs.internal")  # the latter at the start of every run


def _end(*_: Any) -> None:
    # The jobs end with this process, at once; but W&B's exit handler removes a folder of its own.
    atexit._run_exitfuncs()
    os._exit(0)


os.setpgrp()  # Ctrl-C is for the sweep to deal with
signal.signal(signal.SIGTERM, _end)
die_with_parent(signal.SIGTERM)
keep_freed_memory()
wait_asleep()
for module in RUN if os.environ.get("WANDB_MODE") == "disabled" else (*RUN, *WANDB):
    with contextlib.suppress(ImportError):  # then the job says what is missing
        importlib.import_module(module)
