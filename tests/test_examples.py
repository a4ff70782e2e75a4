"""The notebooks run from top to bottom, and what is committed is what such a run left."""

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from conftest import ROOT

import hep2

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
FAST = {"CELLS": 60, "SPECIMENS": 20, "EPOCHS": 1}
FOLDS = {"five_minutes": range(1), "own_folder": range(2)}
TINY = ("model.network.widths=[4,8,8,256]", "features.orientations=1", "trainer.accelerator=cpu")


def cells(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"]
            if cell["cell_type"] == "code"]  # fmt: skip


@pytest.mark.filterwarnings("default")  # whatever a user would see as a warning, and go on
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_dir: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    fit = hep2.fit
    small = (*TINY, f"cache_dir={cache_dir}")
    monkeypatch.setattr(hep2, "fit", lambda words: fit([*words, *stage_epochs(words), *small]))
    matplotlib.use("Agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells(notebook):
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
        if "parameters" in cell["metadata"].get("tags", ()):
            assert {*FAST, "FOLDS"} <= names.keys()
            names |= FAST | {"FOLDS": FOLDS[notebook.stem]}
    matplotlib.pyplot.close("all")


def stage_epochs(words: list[str]) -> list[str]:
    return [] if any(word.startswith("stage.epochs=") for word in words) else ["stage.epochs=2"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_of_one_run(notebook: Path) -> None:
    code = cells(notebook)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert notebook.stat().st_size < 400_000
