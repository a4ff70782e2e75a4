"""Objectives of stage 1 beside plain reconstruction, from the command line to a head."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Configure

from hep2.data.fold import open_fold
from hep2.data.inputs import CellImages
from hep2.data.views import oriented, standardised
from hep2.errors import HEp2Error
from hep2.nets.architectures import read_checkpoint
from hep2.prediction.models import load_ensemble
from hep2.run import fit
from hep2.rundir.directory import RunDir
from hep2.stages.autoencoder import AutoencoderStage
from hep2.stages.classifier import HeadStage

NOWHERE = Path("nothing is written here")
PLUS = ("augment=pose", "model.network.bounded=false", "stage.epochs=2")


@pytest.mark.parametrize("stage", ["dcae_denoising", "dcae_plus"])
def test_an_objective_trains_and_its_encoder_is_fed_with_what_it_knows(
    stage: str, configure: Configure
) -> None:
    run = fit(configure(f"stage={stage}", *PLUS))
    hparams = read_checkpoint(run.last)["hyper_parameters"]
    assert hparams["view"] == "standardised" and hparams["network"]["bounded"] is False
    result = json.loads(run.result.read_text())
    assert result["stage"] == stage and result["labels_in_features"] is False
    assert result["metrics"]["specimen/test/mse"] > 0
    losses = {name for name in result["curves"] if name.startswith("train/")}
    assert losses == {"train/loss"} | ({"train/agreement"} if stage == "dcae_plus" else set())


def test_training_gets_intensities_and_everything_else_the_view(configure: Configure) -> None:
    cfg = configure("stage=dcae_plus", *PLUS, "augment=none")
    fold = open_fold(cfg)
    images = AutoencoderStage(cfg, fold, RunDir(NOWHERE)).inputs
    cells = fold.split.train[:5]
    raw = images.gather(cells, epoch=0)
    assert raw.min() >= 0 and raw.max() <= 1
    assert torch.equal(images.gather(cells, epoch=None), standardised(raw))


def test_averaged_features_are_the_mean_of_the_eight_in_training_and_test(
    configure: Configure,
) -> None:
    fit(configure("stage=dcae_plus", *PLUS))
    cfg = configure("stage=head", "features=dcae_plus", *PLUS, "features.orientations=8")
    fold = open_fold(cfg)
    stage = HeadStage(cfg, fold, RunDir(NOWHERE))
    images = CellImages(fold.cells, view="standardised").gather(fold.split.train, epoch=None)
    with torch.inference_mode():
        encoder = stage.task.encoder.eval()
        single = [encoder(oriented(images, k)).numpy() for k in range(8)]
    for epoch in (None, 3):  # nothing is drawn
        gathered = stage.inputs.gather(fold.split.train, epoch).numpy()
        assert np.abs(gathered - np.mean(single, axis=0)).max() < 1e-6
    run = fit(cfg)
    assert json.loads(run.result.read_text())["method"] == "dcae_plus-mlp"
    ensemble = load_ensemble(str(run.path), Path())
    assert ensemble.judges  # the decoder beside it is found, whatever its objective


def test_an_unknown_objective_names_the_known_ones(configure: Configure) -> None:
    with pytest.raises(HEp2Error, match=r"name=x is unknown: .* denoising, joint_embedding"):
        fit(configure("stage=dcae", "stage.objective.name=x"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stage=dcae_plus", "augment=pose"), r"add model\.network\.bounded=false"),
        (("stage=dcae", "+stage.objective.foo=1"), "reconstruction has no setting foo"),
        (
            ("stage=dcae_plus", *PLUS, "stage.objective.pose=3"),
            "must give rotate, scale, translate",
        ),
        (("stage=dcae_plus", *PLUS, "stage.objective.projector=512"), "must be a list of widths"),
        (("stage=dcae_plus", *PLUS, "stage.objective.weight=x"), "weight=x must be a number"),
        (("stage=cnn", "stage.mixup=-1"), "mixup=-1 must be a number, 0 or more"),
        (
            ("stage=cnn", "stage.label_smoothing=2"),
            "label_smoothing=2 must be a number, from 0, below 1",
        ),
        (("stage=cnn", "stage.sampling=foo"), "choose one of cells, specimens"),
        (("stage=cnn", "+stage.epoch_batches=0"), "epoch_batches=0 must be a whole number, 1 or"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(
    words: tuple[str, ...], said: str, configure: Configure
) -> None:
    with pytest.raises(HEp2Error, match=said):
        fit(configure(*words))
