import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import CONF, TINY

pytestmark = pytest.mark.slow


def train(folder: Path, *words: str) -> dict[str, Any]:
    where = (f"runs_dir={folder}/runs", f"cache_dir={folder.parent}/cache")
    command = [sys.executable, "train.py", *TINY, *where, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=CONF.parent, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    files = list(folder.rglob("result.json"))
    stage = next(word for word in words if word.startswith("stage=")).removeprefix("stage=")
    (file,) = [file for file in files if file.parents[2].name.startswith(f"{stage}-")]
    return {"folder": file.parent} | json.loads(file.read_text())


@pytest.mark.parametrize("devices", [2, 4])
def test_several_devices_make_one_run_like_that_of_one_device(devices: int, tmp_path: Path) -> None:
    one = train(tmp_path / "one", "stage=dcae", "trainer.devices=1")
    more = train(tmp_path / "more", "stage=dcae", f"trainer.devices={devices}")
    directories = [file.parent for file in (tmp_path / "more").rglob("config.yaml")]
    assert directories == [more["folder"]]
    assert more["cells"] == one["cells"] and more["epochs"] == one["epochs"] == 6
    # The same batches, but each device normalises its own share: alike, not equal.
    assert more["metrics"]["specimen/test/mse_of_mean_image"] == pytest.approx(
        one["metrics"]["specimen/test/mse_of_mean_image"]
    )
    assert more["metrics"]["specimen/test/mse"] == pytest.approx(
        one["metrics"]["specimen/test/mse"], rel=0.5
    )
    steps = [torch.load(run["folder"] / "last.ckpt", weights_only=True) for run in (one, more)]
    assert steps[0]["global_step"] == steps[1]["global_step"]
    rows = pd.read_csv(more["folder"] / "metrics.csv")
    assert len(rows["val/loss"].dropna()) == 6


def test_a_head_on_two_devices_predicts_every_test_cell_once(tmp_path: Path) -> None:
    train(tmp_path, "stage=dcae", "trainer.devices=1")
    found = train(tmp_path, "stage=head", "trainer.devices=2")
    rows = pd.read_csv(found["folder"] / "predictions.csv")
    assert len(rows) == len(set(rows.id)) == found["cells"]["test"]


def test_settings_are_tuned_by_all_devices_together(tmp_path: Path) -> None:
    grid = "tuning.grid={stage.optimizer.lr:[1e-5,1e-2]}"
    words = ("stage=dcae", "stage.tuned=true", "trainer.devices=2")
    tuned = train(tmp_path / "tuned", *words, grid, "tuning.epochs=0.5")
    chosen = train(tmp_path / "chosen", *words, "stage.optimizer.lr=1e-2")
    assert tuned["chosen"]["stage.optimizer.lr"] == 1e-2
    found = [(run["folder"] / "predictions.csv").read_bytes() for run in (tuned, chosen)]
    assert found[0] == found[1]
    rows = json.loads((tuned["folder"] / "tuning.json").read_text())["trials"]
    assert len(rows) == 4, "two settings on two inner folds, each tried once"
