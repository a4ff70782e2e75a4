"""Experiments on HEp-2 cell patterns: unsupervised features, evaluated on whole specimens.

    import hep2

    run = hep2.fit(["stage=dcae", "fold=0"])   # as `hep2 train stage=dcae fold=0`
    hep2.runs("default")                       # a table of what is finished
    hep2.load("default").predict("folder")     # the patterns of other cells
    hep2.audit("split.csv").leaks              # does anybody's split leak?

Each of them is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hep2.api import audit, fit, runs
    from hep2.errors import HEp2Error
    from hep2.prediction.loaded import Loaded, load

__version__ = "0.1.0"
__all__ = ["HEp2Error", "Loaded", "audit", "fit", "load", "runs"]

_WHERE = {
    "HEp2Error": "hep2.errors",
    "Loaded": "hep2.prediction.loaded",
    "load": "hep2.prediction.loaded",
    **dict.fromkeys(("audit", "fit", "runs"), "hep2.api"),
}


def __getattr__(name: str) -> Any:
    """What the package offers, from the module that holds it (PEP 562)."""
    if name == "sklearn":
        return importlib.import_module("hep2.sklearn")
    if name not in _WHERE:
        raise AttributeError(f"module 'hep2' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
