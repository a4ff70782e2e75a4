"""An encoder is taken whole and from this very fold, or not at all. None is trained here."""

import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hep2.errors import HEp2Error
from hep2.features.encoder import read_encoder
from hep2.nets.architectures import ENCODERS, build, read_checkpoint

REMEDY = "python train.py stage=dcae fold=0"
NETWORK = {"image_size": 16, "widths": [2, 4, 4]}
PROVENANCE = {"data": "a" * 16, "split": "1" * 16, "protocol": "specimen", "fold": 0, "seed": 0}


@pytest.fixture
def encoder_file(tmp_path: Path) -> Path:
    """A checkpoint with nothing but an encoder, to be spoilt."""
    encoder: nn.Module = build(ENCODERS, "dcae", **NETWORK)
    weights = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    hparams = {"architecture": "dcae", "network": NETWORK, "provenance": PROVENANCE}
    file = tmp_path / "encoder.ckpt"
    torch.save({"state_dict": weights, "hyper_parameters": hparams}, file)
    return file


def loaded(file: Path) -> nn.Module:
    checkpoint = read_encoder(file, PROVENANCE, REMEDY)
    encoder: nn.Module = build(ENCODERS, checkpoint.architecture, **checkpoint.network)
    checkpoint.load_into(encoder)
    return encoder


def changed(file: Path, **replaced: Any) -> Path:
    torch.save(torch.load(file, weights_only=True) | replaced, file)
    return file


@pytest.mark.parametrize(
    "key, value",
    [("fold", 1), ("seed", 3), ("split", "f" * 16), ("data", "0" * 16), ("protocol", "random")],
)
def test_an_encoder_of_another_experiment_is_refused_with_what_differs(
    key: str, value: str | int, encoder_file: Path
) -> None:
    with pytest.raises(HEp2Error) as caught:
        read_encoder(encoder_file, PROVENANCE | {key: value}, REMEDY)
    message = str(caught.value)
    assert f"({key} is {PROVENANCE[key]!r}, not {value!r})" in message
    assert str(encoder_file) in message and message.endswith(REMEDY)


@pytest.mark.parametrize("lacking", ["fold", "seed", "split", "data"])
def test_an_encoder_that_does_not_say_where_it_is_from_is_refused(
    lacking: str, encoder_file: Path
) -> None:
    hparams = torch.load(encoder_file, weights_only=True)["hyper_parameters"]
    del hparams["provenance"][lacking]
    with pytest.raises(HEp2Error, match=rf"\({lacking} is None, not "):
        read_encoder(changed(encoder_file, hyper_parameters=hparams), PROVENANCE, REMEDY)


@pytest.mark.parametrize("hparams", [{}, {"architecture": "dcae"}, None, [1], {"provenance": None}])
def test_a_checkpoint_of_something_else_is_refused(hparams: Any, encoder_file: Path) -> None:
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt "):
        read_encoder(changed(encoder_file, hyper_parameters=hparams), PROVENANCE, REMEDY)


@pytest.mark.parametrize("provenance", [None, [], "fold 0"])
def test_a_provenance_of_another_form_is_refused(provenance: Any, encoder_file: Path) -> None:
    hparams = torch.load(encoder_file, weights_only=True)["hyper_parameters"]
    hparams["provenance"] = provenance
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt "):
        read_encoder(changed(encoder_file, hyper_parameters=hparams), PROVENANCE, REMEDY)


def test_a_missing_encoder_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(HEp2Error, match=r"none\.ckpt is not there; train it first: python train"):
        read_encoder(tmp_path / "none.ckpt", PROVENANCE, REMEDY)
    with pytest.raises(HEp2Error, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(share: float, encoder_file: Path) -> None:
    whole = encoder_file.read_bytes()
    encoder_file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(HEp2Error) as caught:
        read_encoder(encoder_file, PROVENANCE, REMEDY)
    assert str(caught.value).startswith(f"{encoder_file} is damaged or not a checkpoint of hep2 (")
    assert str(caught.value).endswith("): delete its folder and train again")


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
    with pytest.raises(HEp2Error, match=r"other\.ckpt is not a checkpoint of hep2: it lacks"):
        read_checkpoint(tmp_path / "other.ckpt")


def weights_of(file: Path) -> dict[str, Tensor]:
    return dict(torch.load(file, weights_only=True)["state_dict"])


def test_a_missing_tensor_is_named(encoder_file: Path) -> None:
    weights = weights_of(encoder_file)
    del weights["encoder.levels.2.running_var"]
    changed(encoder_file, state_dict=weights)
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt .*Missing key.*levels\.2\.running_var"):
        loaded(encoder_file)


def test_an_unexpected_tensor_is_named(encoder_file: Path) -> None:
    changed(encoder_file, state_dict=weights_of(encoder_file) | {"encoder.more": torch.ones(1)})
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt .*Unexpected key.*more"):
        loaded(encoder_file)


def test_a_tensor_of_another_shape_is_named(encoder_file: Path) -> None:
    weights = weights_of(encoder_file) | {"encoder.levels.0.weight": torch.ones(5, 1, 3, 3)}
    changed(encoder_file, state_dict=weights)
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt .*levels\.0\.weight"):
        loaded(encoder_file)


def test_weights_under_another_prefix_are_not_taken_for_an_encoder(encoder_file: Path) -> None:
    renamed = {f"model.{name}": value for name, value in weights_of(encoder_file).items()}
    changed(encoder_file, state_dict=renamed)
    with pytest.raises(HEp2Error, match="Missing key"):
        loaded(encoder_file)


@pytest.mark.parametrize("name", ["os.system", "vae"])
def test_a_checkpoint_cannot_name_code(name: str, encoder_file: Path) -> None:
    hparams = torch.load(encoder_file, weights_only=True)["hyper_parameters"]
    changed(encoder_file, hyper_parameters=hparams | {"architecture": name})
    with pytest.raises(HEp2Error, match=f"network '{name}' is unknown"):
        loaded(encoder_file)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


# torch's own warning of the variable below, here an error, would keep a wrong reader from reading.
@pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
@pytest.mark.parametrize("form", ["zip", "pickle", "hidden in hyper-parameters"])
def test_a_checkpoint_runs_no_code(
    form: str, encoder_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever leaves the choice to torch would now load anything.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
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
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt is damaged or not a checkpoint of hep2"):
        read_encoder(encoder_file, PROVENANCE, REMEDY)
    assert not target.exists()


def test_a_checkpoint_of_a_gpu_is_read_without_one(
    encoder_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = weights_of(encoder_file)
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    changed(encoder_file)
    found = read_checkpoint(encoder_file)["state_dict"]
    assert {str(value.device) for value in found.values()} == {"cpu"}
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_all_that_differs_is_named(encoder_file: Path) -> None:
    with pytest.raises(HEp2Error) as caught:
        read_encoder(encoder_file, PROVENANCE | {"fold": 3, "seed": 4}, REMEDY)
    assert str(caught.value) == (
        f"the encoder {encoder_file} belongs to another experiment (fold is 0, not 3; seed is 0, "
        f"not 4) and may have seen test specimens of this one; train the right one: {REMEDY}"
    )


def test_all_that_is_lacking_is_named(encoder_file: Path) -> None:
    changed(encoder_file, hyper_parameters={"provenance": {}})
    with pytest.raises(
        HEp2Error, match=r"holds no encoder of hep2: it lacks architecture, network"
    ):
        read_encoder(encoder_file, PROVENANCE, REMEDY)


@pytest.mark.parametrize(
    ("said", "view", "with_labels"),
    [
        ({}, "intensity", False),
        ({"view": "gradient"}, "gradient", False),
        ({"freeze": True}, "intensity", False),
        ({"freeze": False}, "intensity", True),
    ],
)
def test_what_an_encoder_says_of_itself(
    said: dict[str, Any], view: str, with_labels: bool, encoder_file: Path
) -> None:
    content = torch.load(encoder_file, weights_only=True)
    hparams = content["hyper_parameters"] | said
    weights = content["state_dict"] | {"decoder.bias": torch.ones(1), "encoders": torch.ones(1)}
    changed(encoder_file, hyper_parameters=hparams, state_dict=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = read_encoder(encoder_file, PROVENANCE, REMEDY)
    assert (encoder.path, encoder.view) == (encoder_file, view)
    assert encoder.learned_with_labels is with_labels
    assert (encoder.architecture, encoder.network) == ("dcae", NETWORK)
    decoder = nn.Module()
    decoder.bias = nn.Parameter(torch.zeros(1))
    encoder.load_into(decoder, "decoder")
    assert decoder.bias == 1
    assert {f"encoder.{key}" for key in encoder.encoder().state_dict()} == {
        key for key in weights if key.startswith("encoder.")
    }


def test_weights_are_copied_all_or_none(encoder_file: Path) -> None:
    stored = weights_of(encoder_file)
    found = loaded(encoder_file).state_dict()
    assert {f"encoder.{key}" for key in found} == stored.keys()
    assert all(torch.equal(value, stored[f"encoder.{key}"]) for key, value in found.items())
    encoder = read_encoder(encoder_file, PROVENANCE, REMEDY)
    with pytest.raises(HEp2Error, match=r"encoder\.ckpt does not fit its own network: .*Missing"):
        encoder.load_into(nn.Linear(2, 2), "decoder")


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        (("compress_type", zipfile.ZIP_DEFLATED), "compressed"),
        (("external_attr", 16), "foreign attributes"),
        (None, "larger inside than outside"),
    ],
)
def test_an_archive_of_another_form_is_refused(
    attribute: tuple[str, int] | None, reason: str, encoder_file: Path
) -> None:
    read_checkpoint(encoder_file)
    with zipfile.ZipFile(encoder_file, "a") as archive:
        if attribute is None:  # a bomb: one piece of the file, named by many parts
            archive.filelist += archive.filelist * 3
        else:
            setattr(archive.filelist[-1], *attribute)
        archive._didModify = True
    with pytest.raises(HEp2Error, match=r"not a checkpoint of hep2 \(ValueError\)") as caught:
        read_checkpoint(encoder_file)
    assert str(caught.value.__cause__) == reason


def test_a_changed_bit_is_found(encoder_file: Path) -> None:
    content = bytearray(encoder_file.read_bytes())
    content[
        content.index(weights_of(encoder_file)["encoder.levels.0.weight"].numpy().tobytes())
    ] ^= 64
    encoder_file.write_bytes(content)
    with pytest.raises(HEp2Error, match=r"is damaged or not a checkpoint of hep2"):
        read_checkpoint(encoder_file)
