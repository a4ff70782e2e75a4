"""The data set of a finished run, opened again."""

import re
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from hep2.config import plain
from hep2.data.fold import Fold, open_fold
from hep2.errors import HEp2Error
from hep2.rundir.directory import RunDir, damaged

SOURCE = re.compile(r"hep2\.data\.sources\.\w+")  # what a stored configuration may open


def opened_again(path: Path, result: dict[str, Any], every_label: bool = False) -> Fold:
    """The cells and the split of a finished run, opened again from its configuration.

    Where it learned from few labels, `every_label` gives all training cells all the same.

    Raises:
        HEp2Error: it names no source of ours, or the data set is not what it was.
    """
    file = RunDir(path).config
    cfg: Any = OmegaConf.create(RunDir(path).stored())
    source = plain(cfg.data.source)
    target = source.get("_target_") if isinstance(source, dict) else source
    targets = [target, *re.findall("_target_", str(plain(cfg.data)))[1:]]
    if len(targets) > 1 or not SOURCE.fullmatch(str(targets[0])):
        raise damaged(file, f"data.source is {str(targets[0])!r}, none of hep2.data.sources")
    if every_label:
        cfg.protocol.labelled = None  # which takes labels away, and no cell
    fold = open_fold(cfg)
    if fold.cells.key != result.get("data_key"):
        raise HEp2Error(
            f"the data set of {path} is not what it was: name its cells by images=, or train again"
        )
    return fold
