"""The hooks of a stage: their order, and what a variant keeps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Configure
from lightning.pytorch.loggers import Logger

from hep2.data.fold import Fold
from hep2.rundir.directory import RunDir
from hep2.stages.training import Stage


class Told(Stage):
    """Notes which hooks are called; its task is a random number."""

    calls: list[str]

    def configure_inputs(self) -> list[str]:
        self.calls = ["inputs"]
        torch.rand(7)  # first weights must not depend on it
        return ["the inputs"]

    def configure_task(self) -> float:
        assert self.inputs == ["the inputs"]
        self.calls.append(f"task {self.cfg.stage.name}")
        return torch.rand(()).item()

    def train(self, loggers: list[Logger]) -> int:
        return 0

    def score(self) -> dict[str, Any]:
        return {}


def test_a_variant_keeps_the_inputs_and_has_a_task_of_its_own(
    configure: Configure, fold: Fold, tmp_path: Path
) -> None:
    cfg, other = configure("stage=dcae"), configure("stage=cnn")
    stage = Told(cfg, fold, RunDir(tmp_path))
    assert stage.calls == ["inputs", "task dcae"]
    cells = replace(fold, split=replace(fold.split, val=fold.split.val[:1]))
    torch.rand(3)
    trial = stage.variant(other, cells, RunDir(tmp_path / "trial"))
    assert stage.calls == ["inputs", "task dcae", "task cnn"]
    assert trial.inputs is stage.inputs and trial.task == stage.task, "the seed's weights"
    assert (trial.cfg, trial.fold, trial.run.path) == (other, cells, tmp_path / "trial")
    assert (stage.cfg, stage.fold, stage.run.path) == (cfg, fold, tmp_path)


GRID = "tuning.grid={stage.epochs:[1,2]}"


@pytest.mark.parametrize(
    ("words", "tunable", "tuned"),
    [(["stage=cnn", GRID], True, True), (["stage=cnn", GRID], False, False),
     (["stage=cnn"], True, False), (["stage=dcae", GRID], True, False)],
)  # fmt: skip
def test_a_stage_is_tuned_where_it_can_be_and_there_is_a_grid(
    words: list[str], tunable: bool, tuned: bool,
    configure: Configure, fold: Fold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Told, "tunable", tunable)
    assert Told(configure("tuning=none", *words), fold, RunDir(tmp_path)).to_be_tuned is tuned
