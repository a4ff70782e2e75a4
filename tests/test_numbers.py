"""Images and figures at the edges: defined behaviour, from the files to the table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, composed
from helpers.results import result
from PIL import Image

from hep2.errors import HEp2Error
from hep2.evaluation.report import make_report
from hep2.run import fit
from hep2.rundir.directory import RunDir

SMALL = [word for word in TINY if not word.startswith("data.source")]


def write_cells(
    root: Path, cells: int = 4, specimens: int = 4, classes: str = "abc", kind: str = "noise"
) -> None:
    """`specimens` of each pattern, `cells` each; patterns differ in brightness."""
    rng = np.random.default_rng(0)
    lines = ["image,label,specimen"]
    root.mkdir()
    for level, label in enumerate(classes):
        for specimen in range(specimens):
            for cell in range(cells):
                name = f"{label}{specimen}-{cell}.png"
                noise = rng.integers(0, 80, (64, 64)) + 60 * level
                wide = (noise * 257).astype(np.uint16)
                pixels = {
                    "noise": noise.astype(np.uint8),
                    "wide": wide,
                    "twelve": (noise * 16).astype(np.uint16),
                    "mixed": wide if cell % 2 else noise.astype(np.uint8),
                    "black": np.zeros((64, 64), np.uint8),
                    "constant": np.full((64, 64), 40 * level + 9, np.uint8),
                }[kind]
                Image.fromarray(pixels).save(root / name)
                lines.append(f"{name},{label},{label}{specimen}")
    (root / "manifest.csv").write_text("\n".join(lines))


def settings(tmp_path: Path, *words: str) -> Any:
    where = [f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache"]
    data = ["data=manifest", f"data.root={tmp_path}/cells", "stage.epochs=2"]
    return composed(*SMALL, *where, *data, *words)


def both(tmp_path: Path, *words: str) -> tuple[RunDir, RunDir]:
    return (
        fit(settings(tmp_path, "stage=dcae", *words)),
        fit(settings(tmp_path, "stage=head", *words)),
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "cells", "specimens", "classes"),
    [
        ("wide", 2, 4, "abc"),
        ("twelve", 2, 4, "abc"),
        ("mixed", 2, 4, "abc"),
        ("noise", 1, 6, "abc"),  # specimens of a single cell
        ("noise", 3, 4, "ab"),  # two patterns
    ],
)
def test_unusual_cells_are_trained_on_and_scored(
    kind: str, cells: int, specimens: int, classes: str, tmp_path: Path
) -> None:
    write_cells(tmp_path / "cells", cells, specimens, classes, kind)
    dcae, head = both(tmp_path, "protocol.folds=2")
    assert all(value is not None for value in result(dcae)["metrics"].values())
    assert result(head)["classes"] == list(classes)
    scale = {"wide": 65535, "mixed": 65535, "twelve": 4095}.get(kind, 255)
    assert [result(run)["full_scale"] for run in (dcae, head)] == [scale] * 2
    assert result(head)["cells"]["test"] == cells * specimens * len(classes) // 2
    assert make_report("default", tmp_path / "runs", tmp_path / "reports").files


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["black", "constant"])
def test_images_without_content_are_named_and_figures_say_that_nothing_was_learned(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_cells(tmp_path / "cells", 2, 4, "abc", kind)
    dcae, head = both(tmp_path, "protocol.folds=2")
    for run in (dcae, head):
        assert any("every pixel has the same value (24)" in note for note in result(run)["notes"])
    figures = result(head)["metrics"]
    assert all(value is not None for value in (result(dcae)["metrics"] | figures).values())
    if kind == "black":
        assert figures["specimen/test/mca"] == pytest.approx(1 / 3)  # one call for all cells
        assert figures["specimen/test/auroc"] == pytest.approx(1 / 2)
        assert result(dcae)["collapsed"]
        assert result(head)["collapsed_encoders"] == ["dcae-dcae/fold0/seed0"]
        assert "has collapsed: this run's metrics mean nothing" in caplog.text
        report = make_report("default", tmp_path / "runs", tmp_path / "reports")
        assert "dcae-mlp: THE ENCODER HAD COLLAPSED in folds 0" in report.tables[0].as_text()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_no_number_stops_the_run_with_its_cells(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hep2.tasks.reconstruction import Reconstruction

    write_cells(tmp_path / "cells")
    good = Reconstruction.training_step
    seen: list[Any] = []

    def spoilt(task: Any, batch: Any, number: int) -> torch.Tensor:
        seen.append(batch["index"])
        loss = good(task, batch, number)
        return loss * float(value) if task.current_epoch == 1 and number == 1 else loss

    monkeypatch.setattr(Reconstruction, "training_step", spoilt)
    cfg = settings(tmp_path, "stage.epochs=3", "protocol.folds=2")
    with pytest.raises(
        HEp2Error, match=rf"the loss is {value} in epoch 2, step \d+, on the cells "
    ) as e:
        fit(cfg)
    from hep2.data.fold import open_fold

    ids = open_fold(cfg).cells.ids
    assert ", ".join(ids[seen[-1]]) in str(e.value)
    run = RunDir(next((tmp_path / "runs").rglob("seed0")))
    kept = torch.load(run.last, weights_only=True)
    assert kept["epoch"] == 0
    assert all(torch.isfinite(value).all() for value in kept["state_dict"].values())
    assert not run.finished


@pytest.mark.filterwarnings("ignore")
def test_weights_that_are_no_numbers_are_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An infinite gradient behind a finite loss, in the last step of an epoch."""
    from hep2.tasks.reconstruction import Reconstruction

    def spoilt(task: Any, *_: Any) -> None:
        if task.trainer.is_last_batch:
            next(task.parameters()).data.fill_(float("inf"))

    write_cells(tmp_path / "cells")
    monkeypatch.setattr(Reconstruction, "on_train_batch_end", spoilt)
    with pytest.raises(HEp2Error, match=r"after epoch 1 weights are NaN or infinite \(encoder"):
        fit(settings(tmp_path, "protocol.folds=2"))
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


@pytest.mark.filterwarnings("ignore")
def test_a_class_that_no_training_cell_has_is_known_all_the_same(tmp_path: Path) -> None:
    """Two specimens of one pattern, both of the test pool: it counts as missed in the test."""
    write_cells(tmp_path / "cells", 2, 4, "abc")
    csv = tmp_path / "cells" / "manifest.csv"
    head, *rows = csv.read_text().splitlines()
    pool = ["test" if row[0] == "c" or row.split(",")[2][1] in "01" else "train" for row in rows]
    csv.write_text(
        "\n".join([f"{head},pool", *(f"{r},{p}" for r, p in zip(rows, pool, strict=True))])
    )
    _, run = both(tmp_path, "protocol=public_split")
    assert result(run)["recall"]["c"] == 0.0
