"""The mean of what finished runs of a fold say: no training, no new look at a cell."""

import functools
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger

from hep2.calls.calibration import HeldOut
from hep2.errors import HEp2Error
from hep2.rundir.directory import RunDir
from hep2.rundir.layout import member_runs
from hep2.rundir.predictions import read_predictions
from hep2.rundir.result import Run, read_run
from hep2.stages.held_out import calibration_by, settings_of
from hep2.stages.scores import score_classifier
from hep2.stages.training import Stage


class EnsembleStage(Stage):
    """Averages the probabilities of `stage.members`, each over `stage.seeds`."""

    inputs: list[Run]
    held_out: HeldOut | str  # to calibrate with, or why there is nothing

    def configure_inputs(self) -> list[Run]:
        """The members, finished, on this very split.

        Raises:
            HEp2Error: there are none, or one is not finished, of other test cells, or damaged.
        """
        found = member_runs(self.cfg)
        if not found:
            raise HEp2Error("stage.members names no run: e.g. stage.members=[head-dcae-mlp]")
        if missing := [str(run.path) for run in found if not run.finished]:
            raise HEp2Error(
                f"an ensemble needs its members, but not finished: {', '.join(missing)}"
            )
        members = [read_run(run.path) for run in found]
        test = self.fold.cells.ids[self.fold.split.test]
        for member in members:
            if member.predictions is None or not np.array_equal(member.predictions.ids, test):
                raise HEp2Error(f"{member.path} has not classified the test cells of this fold")
        return members

    def configure_task(self) -> None:
        """Nothing learns."""
        settings_of(self.cfg)

    def train(self, loggers: list[Logger]) -> int | None:
        """Nothing to do."""
        return 0

    def hold_out(self) -> None:
        """The mean of what the members said of the specimens that each of them held out."""
        classes = self.fold.cells.classes
        files = [RunDir(member.path).held_out for member in self.inputs]
        if missing := [str(file) for file in files if not file.is_file()]:
            self.held_out = f"members have held nothing out: there is no {', '.join(missing)}"
            return
        parts = [read_predictions(file, classes) for file in files]
        ids = functools.reduce(np.intersect1d, [part.ids for part in parts])
        rows = [np.argsort(part.ids)[np.searchsorted(np.sort(part.ids), ids)] for part in parts]
        named = [part.probabilities[own] for part, own in zip(parts, rows, strict=True)]
        first, own = parts[0], rows[0]
        how = f"the mean of {len(parts)} members, each of which had held the specimens out"
        known = (ids, first.specimens[own], first.targets[own], np.mean(named, axis=0))
        self.held_out = HeldOut(*known, how)

    def score(self) -> dict[str, Any]:
        """Predictions and metrics of the mean probabilities."""
        members = self.inputs
        mean = np.mean([member.cells.probabilities for member in members], axis=0)
        read = {member.labels_in_features for member in members}
        any_read = next(answer for answer in (True, False, None) if answer in read)
        named = ["/".join(member.path.parts[-3:]) for member in members]  # beside this method
        believed = calibration_by(self, self.held_out)
        strange = [member.cells.novelty for member in members]
        known = [novelty for novelty in strange if novelty is not None]
        novelty = np.mean(known, axis=0) if len(known) == len(members) else None
        scores = score_classifier(self.fold, self.run, mean, believed, novelty)
        return scores | {"labels_in_features": any_read, "members": named}
