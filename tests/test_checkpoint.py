import math
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from conftest import Configure, Trained
from torch import Tensor, nn

from hep2.callbacks import Checkpoints
from hep2.data.inputs import CellImages
from hep2.errors import HEp2Error
from hep2.features.checkpoint import read_encoder
from hep2.files import write_atomic
from hep2.fold import Fold
from hep2.nets.architectures import ENCODERS, build
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
    assert content["hyper_parameters"]["network"] == {"image_size": 64, "widths": [4, 8, 8, 256]}
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
    with torch.no_grad():
        rows = task(images).softmax(dim=1).numpy()
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
        read_encoder(run.best, fold.provenance, REMEDY).weights()
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


def test_the_best_epoch_is_the_first_of_the_lowest_and_a_resumed_run_knows_it(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()

    def saved(keeper: Checkpoints, figures: list[float]) -> list[bool]:
        """Whether each epoch became the best one; it must be the last one's checkpoint as well."""
        found = []
        for epoch, figure in enumerate(figures):
            trainer = MagicMock(callback_metrics={"val/loss": torch.tensor(figure)})
            trainer.save_checkpoint = lambda path, epoch=epoch: write_atomic(path, f"{epoch}")
            keeper.on_train_epoch_end(trainer, MagicMock())
            assert (keeper.folder / "last.ckpt").read_text() == f"{epoch}"
            best = keeper.folder / "best.ckpt"
            found.append(best.exists() and best.read_text() == f"{epoch}")
        return found

    keeper = Checkpoints(folder, "val/loss")
    assert saved(keeper, [math.nan, 2.0, 3.0, 1.0, 1.0]) == [True, True, False, True, False]
    resumed = Checkpoints(folder.rename(tmp_path / "moved"), "val/loss")
    resumed.load_state_dict(keeper.state_dict())
    (resumed.folder / "best.ckpt").unlink()
    assert saved(resumed, [1.0, math.nan, 0.5]) == [False, False, True]
    assert saved(Checkpoints(tmp_path, None), [1.0, 2.0]) == [True, True]
