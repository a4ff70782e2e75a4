import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from conftest import Configure, Trained
from torch import Tensor, nn

from hep2.data.fold import Fold
from hep2.data.inputs import CellImages
from hep2.data.views import oriented
from hep2.errors import HEp2Error
from hep2.features.encoder import read_encoder
from hep2.nets.architectures import ENCODERS, build
from hep2.stages.checkpoints import CheckpointFiles, Checkpoints, same_file
from hep2.tasks.classification import Classification
from hep2.tasks.reconstruction import Reconstruction

REMEDY = "python train.py stage=dcae fold=0"


def loaded(file: Path, fold: Fold) -> nn.Module:
    checkpoint = read_encoder(file, fold.provenance, REMEDY)
    encoder: nn.Module = build(ENCODERS, checkpoint.architecture, **checkpoint.network)
    checkpoint.load_into(encoder)
    return encoder


def plain(node: Any) -> bool:
    """Only what the safe loader and any later version can read."""
    if type(node) is dict:
        return all(type(key) is str and plain(value) for key, value in node.items())
    if type(node) is list:
        return all(plain(value) for value in node)
    return node is None or type(node) in (str, int, float, bool)


@pytest.mark.parametrize("stage", ["dcae", "head"])
@pytest.mark.parametrize("kind", ["best", "last"])
def test_checkpoints_load_safely_and_name_networks_by_plain_values(
    stage: str, kind: str, trained: Trained
) -> None:
    content = torch.load(getattr(getattr(trained, stage), kind), weights_only=True)
    assert plain(content["hyper_parameters"])
    assert content["hyper_parameters"]["architecture"] == "dcae"
    network = {"image_size": 64, "widths": [4, 8, 8, 256], "bounded": True}
    assert content["hyper_parameters"]["network"] == network
    assert all(isinstance(value, Tensor) for value in content["state_dict"].values())


def test_the_autoencoder_loads_without_a_configuration(trained: Trained, fold: Fold) -> None:
    import json

    task = Reconstruction.load_from_checkpoint(trained.dcae.best, weights_only=True).eval()
    images = CellImages(fold.cells).gather(fold.split.test, epoch=None)
    with torch.no_grad():
        mse = (task(images) - images).square().mean().item()
    figures = json.loads(trained.dcae.result.read_text())["metrics"]
    assert mse == pytest.approx(figures["specimen/test/mse"], rel=1e-5)


def test_the_classifier_loads_without_a_configuration(trained: Trained, fold: Fold) -> None:
    import pandas as pd

    task = Classification.load_from_checkpoint(trained.head.best, weights_only=True).eval()
    images = CellImages(fold.cells).gather(fold.split.test, epoch=None)
    assert task.encoder is not None and task.hparams["orientations"] == 2
    with torch.no_grad():
        mean = (task.encoder(images) + task.encoder(oriented(images, 1))) / 2
        rows = task.head(mean).softmax(dim=1).numpy()
    written = pd.read_csv(trained.head.predictions).filter(like="p_").to_numpy()
    assert abs(rows - written).max() < 1e-5


def test_the_right_encoder_is_loaded_with_all_its_weights(trained: Trained, fold: Fold) -> None:
    weights = loaded(trained.dcae.best, fold).state_dict()
    stored = torch.load(trained.dcae.best, weights_only=True)["state_dict"]
    assert {f"encoder.{name}" for name in weights} == {
        name for name in stored if name.startswith("encoder.")
    }
    assert all(torch.equal(value, stored[f"encoder.{name}"]) for name, value in weights.items())


def test_a_head_checkpoint_of_the_right_fold_holds_the_right_encoder(
    trained: Trained, fold: Fold
) -> None:
    one, two = (
        read_encoder(run.best, fold.provenance, REMEDY).encoder().state_dict()
        for run in (trained.dcae, trained.head)
    )
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_the_whole_run_refuses_an_encoder_of_another_fold(
    trained: Trained, configure: Configure
) -> None:
    from hep2.run import fit

    cfg = configure("stage=head", "fold=1", f"encoder={trained.dcae.best}")
    with pytest.raises(HEp2Error, match=r"fold is 0, not 1.*python train\.py stage=dcae .* fold=1"):
        fit(cfg)


def _keeper(folder: Path, monitor: str | None = "val/loss", every: float = 0.0) -> Checkpoints:
    folder.mkdir(exist_ok=True)
    return Checkpoints(folder, CheckpointFiles(), monitor, every=every)


def _epoch(keeper: Checkpoints, epoch: int, figure: float, epochs: int = 100) -> list[int | None]:
    """The end of an epoch; which epochs `last.ckpt` and `best.ckpt` are of, afterwards."""
    trainer = SimpleNamespace(
        callback_metrics={"val/loss": torch.tensor(figure)},
        save_checkpoint=lambda path: keeper.files.save_checkpoint({"epoch": epoch}, path),
        strategy=SimpleNamespace(broadcast=lambda due: due),
        should_stop=False,
        is_global_zero=True,
        current_epoch=epoch,
        max_epochs=epochs,
    )
    keeper.on_train_epoch_end(trainer, MagicMock())  # type: ignore[arg-type]
    files = (keeper.run.last, keeper.run.best)
    return [torch.load(file)["epoch"] if file.exists() else None for file in files]


def test_the_best_epoch_is_the_first_of_the_lowest_and_a_resumed_run_knows_it(
    tmp_path: Path,
) -> None:
    keeper = _keeper(tmp_path / "run")
    kept = [_epoch(keeper, i, x) for i, x in enumerate([math.nan, 2.0, 3.0, 1.0, 1.0])]
    assert kept == [[0, 0], [1, 1], [2, 1], [3, 3], [4, 3]]
    resumed = _keeper((tmp_path / "run").rename(tmp_path / "moved"))
    resumed.load_state_dict(keeper.state_dict())
    kept = [_epoch(resumed, i, x) for i, x in enumerate([1.0, math.nan, 0.5], start=5)]
    assert kept == [[5, 3], [6, 3], [7, 7]]
    unwatched = _keeper(tmp_path / "other", None)
    assert [_epoch(unwatched, i, x) for i, x in enumerate([1.0, 2.0])] == [[0, 0], [1, 1]]


def test_checkpoints_are_written_when_it_is_time_and_after_the_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("hep2.stages.checkpoints.time.monotonic", lambda: now)
    keeper = _keeper(tmp_path / "run", every=10.0)
    kept = []
    for epoch, (seconds, figure) in enumerate([(4, 3.0), (5, 1.0), (1, 2.0), (9, 0.5), (0, 0.7)]):
        now += seconds
        kept.append(_epoch(keeper, epoch, figure, epochs=5))
    # The best epoch waits in memory for the next writing, which may be that of a later epoch.
    assert kept == [[None, None], [None, None], [2, 1], [2, 1], [4, 3]]


def test_a_training_that_ends_by_the_clock_is_kept(tmp_path: Path) -> None:
    keeper = _keeper(tmp_path / "run", every=1e9)
    assert _epoch(keeper, 0, 1.0) == [None, None]
    save = keeper.files.save_checkpoint
    trainer = MagicMock(save_checkpoint=lambda path: save({"epoch": 1}, path))
    keeper.on_train_end(trainer, MagicMock())
    assert torch.load(keeper.run.last)["epoch"] == 1
    assert torch.load(keeper.run.best)["epoch"] == 0


def test_without_a_monitor_nothing_is_copied_before_it_is_written(tmp_path: Path) -> None:
    keeper = _keeper(tmp_path / "run", None, every=1e9)
    assert _epoch(keeper, 0, 1.0) == [None, None] and not keeper.files.waiting
    save = keeper.files.save_checkpoint
    trainer = MagicMock(save_checkpoint=lambda path: save({"epoch": 1}, path))
    keeper.on_train_end(trainer, MagicMock())
    assert [torch.load(file)["epoch"] for file in (keeper.run.last, keeper.run.best)] == [1, 1]


def test_a_file_system_without_second_names_gets_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    there, name = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    there.write_bytes(b"new")
    name.write_bytes(b"old")
    monkeypatch.setattr(os, "link", refused)
    same_file(there, name)
    assert there.read_bytes() == name.read_bytes() == b"new"
    assert sorted(tmp_path.iterdir()) == [there, name]
