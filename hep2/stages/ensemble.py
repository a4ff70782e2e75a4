"""The mean of what finished runs of a fold say: no training, no new look at a cell."""

from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger

from hep2.errors import HEp2Error
from hep2.rundir.layout import member_runs
from hep2.rundir.result import Run, read_run
from hep2.stages.classifier import score_classifier
from hep2.stages.training import Stage


class EnsembleStage(Stage):
    """Averages the probabilities of `stage.members`, each over `stage.seeds`."""

    inputs: list[Run]

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

    def train(self, loggers: list[Logger]) -> int | None:
        """Nothing to do."""
        return 0

    def score(self) -> dict[str, Any]:
        """Predictions and metrics of the mean probabilities."""
        members = self.inputs
        mean = np.mean([member.cells.probabilities for member in members], axis=0)
        read = {member.labels_in_features for member in members}
        any_read = next(answer for answer in (True, None, False) if answer in read)
        named = ["/".join(member.path.parts[-3:]) for member in members]  # beside this method
        scores = score_classifier(self.fold, self.run, mean)
        return scores | {"labels_in_features": any_read, "members": named}
