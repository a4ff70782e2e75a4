import math
import os
import pickle
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from conftest import Configure, Trained
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hep2.callbacks import Checkpoints
from hep2.data.inputs import CellImages
from hep2.errors import HEp2Error
from hep2.features.checkpoint import read_checkpoint, read_encoder
from hep2.files import write_atomic
from hep2.fold import Fold
from hep2.nets.architectures import ENCODERS, build
from hep2.tasks.classification import Classification
from hep2.tasks.reconstruction import Reconstruction

REMEDY = "python train.py stage=dcae fold=0"


@pytest.fixture
def encoder_file(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the encoder's checkpoint, to be spoilt."""
    return Path(shutil.copy(trained.dcae.best, tmp_path / "encoder.ckpt"))


def loaded(file: Path, fold: Fold) -> nn.Module:
    checkpoint = read_encoder(file, fold.provenance, REMEDY)
    encoder: nn.Module = build(ENCODERS, checkpoint.architecture, **checkpoint.network)
    checkpoint.load_into(encoder)
    return encoder


def changed(file: Path, **replaced: Any) -> Path:
    torch.save(torch.load(file, weights_only=True) | replaced, file)
    return file


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


@pytest.mark.parametrize(
    "key, value",
    [("fold", 1), ("seed", 3), ("split", "f" * 16), ("data", "0" * 16), ("protocol", "random")],
)
def test_an_encoder_of_another_experiment_is_refused_with_what_differs(
    key: str, value: str | int, trained: Trained, fold: Fold
) -> None:
    with pytest.raises(HEp2Error) as caught:
        read_encoder(trained.dcae.best, fold.provenance | {key: value}, REMEDY)
    message = str(caught.value)
    assert f"({key} is {fold.provenance[key]!r}, not {value!r})" in message
    assert str(trained.dcae.best) in message and message.endswith(REMEDY)


@pytest.mark.parametrize("lacking", ["fold", "seed", "split", "data"])
def test_an_encoder_that_does_not_say_where_it_is_from_is_refused(
    lacking: str, encoder_file: Path, fold: Fold
) -> None:
    hparams = torch.load(encoder_file, weights_only=True)["hyper_parameters"]
    del hparams["provenance"][lacking]
    with pytest.raises(HEp2Error, match=rf"\({lacking} is None, not "):
        read_encoder(changed(encoder_file, hyper_parameters=hparams), fold.provenance, REMEDY)


@pytest.mark.parametrize("hparams", [{}, {"architecture": "dcae"}, None, [1], {"provenance": None}])
def test_a_checkpoint_of_something_else_is_refused(
    hparams: Any, encoder_file: Path, fold: Fold
) -> None:
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt "):
        read_encoder(changed(encoder_file, hyper_parameters=hparams), fold.provenance, REMEDY)


@pytest.mark.parametrize("provenance", [None, [], "fold 0"])
def test_a_provenance_of_another_form_is_refused(
    provenance: Any, encoder_file: Path, fold: Fold
) -> None:
    hparams = torch.load(encoder_file, weights_only=True)["hyper_parameters"]
    hparams["provenance"] = provenance
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt "):
        read_encoder(changed(encoder_file, hyper_parameters=hparams), fold.provenance, REMEDY)


def test_a_head_checkpoint_of_the_right_fold_holds_the_right_encoder(
    trained: Trained, fold: Fold
) -> None:
    one, two = (
        read_encoder(run.best, fold.provenance, REMEDY).weights()
        for run in (trained.dcae, trained.head)
    )
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_missing_encoder_is_named_with_the_command_that_makes_it(
    tmp_path: Path, fold: Fold
) -> None:
    with pytest.raises(HEp2Error, match=r"none\.ckpt is not there; train it first: python train"):
        read_encoder(tmp_path / "none.ckpt", fold.provenance, REMEDY)
    with pytest.raises(HEp2Error, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(share: float, encoder_file: Path, fold: Fold) -> None:
    whole = encoder_file.read_bytes()
    encoder_file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt is damaged or no checkpoint of hep2"):
        read_encoder(encoder_file, fold.provenance, REMEDY)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b"\x80\x02" + tail))
def test_no_garbage_gets_past_the_reader(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "garbage.ckpt"
    file.write_bytes(content)
    with pytest.raises(HEp2Error, match=r"garbage\.ckpt is"):
        read_checkpoint(file)


@pytest.mark.parametrize("content", [{}, [1, 2], {"state_dict": {}}, "text"])
def test_plain_data_that_are_no_checkpoint_are_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(HEp2Error, match=r"other\.ckpt is no checkpoint of hep2: it lacks"):
        read_checkpoint(tmp_path / "other.ckpt")


def weights_of(file: Path) -> dict[str, Tensor]:
    return dict(torch.load(file, weights_only=True)["state_dict"])


def test_a_missing_tensor_is_named(encoder_file: Path, fold: Fold) -> None:
    weights = weights_of(encoder_file)
    del weights["encoder.levels.2.running_var"]
    changed(encoder_file, state_dict=weights)
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt .*Missing key.*levels\.2\.running_var"):
        loaded(encoder_file, fold)


def test_an_unexpected_tensor_is_named(encoder_file: Path, fold: Fold) -> None:
    changed(encoder_file, state_dict=weights_of(encoder_file) | {"encoder.more": torch.ones(1)})
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt .*Unexpected key.*more"):
        loaded(encoder_file, fold)


def test_a_tensor_of_another_shape_is_named(encoder_file: Path, fold: Fold) -> None:
    weights = weights_of(encoder_file) | {"encoder.levels.0.weight": torch.ones(5, 1, 3, 3)}
    changed(encoder_file, state_dict=weights)
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt .*levels\.0\.weight"):
        loaded(encoder_file, fold)


def test_weights_under_another_prefix_are_not_taken_for_an_encoder(
    encoder_file: Path, fold: Fold
) -> None:
    renamed = {f"model.{name}": value for name, value in weights_of(encoder_file).items()}
    changed(encoder_file, state_dict=renamed)
    with pytest.raises(HEp2Error, match="Missing key"):
        loaded(encoder_file, fold)


@pytest.mark.parametrize("name", ["os.system", "vae"])
def test_a_checkpoint_cannot_name_code(name: str, encoder_file: Path, fold: Fold) -> None:
    hparams = torch.load(encoder_file, weights_only=True)["hyper_parameters"]
    changed(encoder_file, hyper_parameters=hparams | {"architecture": name})
    with pytest.raises(HEp2Error, match=f"network '{name}' is unknown"):
        loaded(encoder_file, fold)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("form", ["zip", "pickle", "hidden in hyper-parameters"])
def test_a_checkpoint_runs_no_code(
    form: str, encoder_file: Path, tmp_path: Path, fold: Fold
) -> None:
    payload, target = Payload(tmp_path / "made"), tmp_path / "made"
    if form == "zip":
        torch.save(payload, encoder_file)
    elif form == "pickle":
        encoder_file.write_bytes(pickle.dumps(payload))
    else:
        hparams = torch.load(encoder_file, weights_only=True)["hyper_parameters"]
        changed(encoder_file, hyper_parameters=hparams | {"extra": payload})
    if form != "pickle":  # the payload is live
        torch.load(encoder_file, weights_only=False)
        target.rmdir()
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt is damaged or no checkpoint of hep2"):
        read_encoder(encoder_file, fold.provenance, REMEDY)
    assert not target.exists()


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
