from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Configure
from omegaconf import OmegaConf
from torch import Tensor

from hep2.data.fold import Fold
from hep2.data.inputs import CellImages
from hep2.errors import HEp2Error
from hep2.run import fit
from hep2.rundir.directory import RunDir, configuration_differences
from hep2.stages.autoencoder import (
    OBJECTIVES,
    AutoencoderStage,
    ReconstructionScore,
    errors_and_latents,
    rankme,
    score_reconstruction,
    squared_error,
)
from hep2.tasks.optim import adamw
from hep2.tasks.reconstruction import LOSSES, Reconstruction, reconstruction_loss

OPTIMIZER = {"lr": 1e-2, "weight_decay": 0.0, "schedule": "one_cycle"}


def task(
    loss: str = "mse", size: int = 64, widths: tuple[int, ...] = (8, 16, 16, 64)
) -> Reconstruction:
    torch.manual_seed(0)
    network = {"image_size": size, "widths": list(widths)}
    return Reconstruction("dcae", network, loss, OPTIMIZER, {})


def scored(learner: Reconstruction, images: Tensor, guess: Tensor) -> ReconstructionScore:
    inputs: Any = SimpleNamespace(gather=lambda cells, epoch: images[cells])
    errors, latents = errors_and_latents(learner, inputs, np.arange(len(images)))
    return score_reconstruction(errors, squared_error(guess, images).numpy(), latents)


def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, 32, 32, generator=generator)
    return image, (image + 0.2 * torch.randn(image.shape, generator=generator)).clamp(0, 1)


def test_sixteen_cells_are_learned_far_better_than_their_mean(fold: Fold) -> None:
    spread = fold.split.train[np.linspace(0, len(fold.split.train) - 1, 16).astype(int)]
    images = CellImages(fold.cells).gather(spread, epoch=None)
    learner = task()
    steps = 80
    (optimizer,), (schedule,) = adamw(learner.parameters(), steps, **OPTIMIZER)
    for _ in range(steps):
        optimizer.zero_grad()
        learner.loss(learner(images), images).backward()
        optimizer.step()
        schedule["scheduler"].step()
    score = scored(learner, images, images.mean(dim=0))
    assert score.mse < 0.3 * score.mse_of_mean_image
    assert not score.collapsed


@pytest.mark.parametrize("name", LOSSES)
def test_equal_images_have_no_loss_and_unequal_ones_have(name: str) -> None:
    image, other = pair()
    loss = reconstruction_loss(name)
    assert loss(image, image).item() == pytest.approx(0, abs=1e-6)
    assert loss(other, image).item() > 0.01
    worse = (image + 2 * (other - image)).clamp(0, 1)
    assert loss(worse, image) > loss(other, image)


def test_losses_are_means_over_pixels_and_cells() -> None:
    image, other = pair()
    difference = (other - image).numpy()
    assert reconstruction_loss("mse")(other, image).item() == pytest.approx(np.mean(difference**2))
    assert reconstruction_loss("l1")(other, image).item() == pytest.approx(
        np.mean(np.abs(difference))
    )


def test_ssim_agrees_with_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    image, other = pair()
    expected = [
        metrics.structural_similarity(
            one[0].double().numpy(),
            two[0].double().numpy(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for one, two in zip(other, image, strict=True)
    ]
    found = reconstruction_loss("ssim")(other, image).item()
    # The two treat the border differently; 0.02 is far less than a wrong constant makes.
    assert found == pytest.approx(1 - np.mean(expected), abs=0.02)


class Masking(Reconstruction):
    """What a new objective has to say."""

    def pair(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The image without its upper half, and the whole image."""
        given = batch["image"].clone()
        given[:, :, :16] = 0
        return given, batch["image"]


def test_an_objective_of_its_own_is_a_subclass_with_another_pair() -> None:
    torch.manual_seed(0)
    learner = Masking("dcae", {"image_size": 32, "widths": [2, 3]}, "mse", OPTIMIZER, {}).eval()
    image, _ = pair()
    given = torch.cat([torch.zeros_like(image[:, :, :16]), image[:, :, 16:]], dim=2)
    loss = learner.training_step({"image": image}, 0)
    assert loss.item() == torch.nn.functional.mse_loss(learner(given), image).item()
    learner.validation_step({"image": image}, 0)
    plain = torch.nn.functional.mse_loss(learner(image), image).item()
    assert learner.val_loss.compute().item() == pytest.approx(plain) != loss.item()


def test_the_objective_is_a_line_in_a_table_and_a_word(
    configure: Configure, fold: Fold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path)
    assert type(AutoencoderStage(configure("stage=dcae"), fold, run).task) is Reconstruction
    asked = configure("stage=dcae", "stage.objective.name=masking")
    with pytest.raises(
        HEp2Error, match=r"objective.name=masking is unknown: choose one of reconstruct"
    ):
        AutoencoderStage(asked, fold, run)
    monkeypatch.setitem(OBJECTIVES, "masking", Masking)
    assert type(AutoencoderStage(asked, fold, run).task) is Masking


def test_runs_of_before_learned_to_reconstruct(configure: Configure) -> None:
    stored: Any = OmegaConf.to_container(configure("stage=dcae"), resolve=True)
    del stored["stage"]["objective"]
    assert configuration_differences(stored, configure("stage=dcae")) == []
    asked = configure("stage=dcae", "stage.objective.name=masking")
    assert configuration_differences(stored, asked) == [
        "stage.objective.name: reconstruction there, masking asked"
    ]


def test_an_unknown_loss_is_refused_with_the_known_ones(configure: Configure) -> None:
    with pytest.raises(HEp2Error, match=r"stage\.loss=l2 is unknown: choose one of mse, l1, ssim"):
        task(loss="l2")


def test_an_unknown_schedule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(HEp2Error, match="schedule=step is unknown: choose one of one_cycle, cos"):
        adamw(task().parameters(), 10, lr=1e-3, weight_decay=0.0, schedule="step")


@pytest.mark.parametrize("word", ["lr=x", "lr=null", "lr=-1", "weight_decay=x"])
def test_settings_of_the_optimizer_are_numbers(word: str, configure: Configure) -> None:
    value = word.replace("null", "None")
    with pytest.raises(HEp2Error, match=rf"stage\.optimizer\.{value} must be a number"):
        fit(configure("stage=dcae", f"stage.optimizer.{word}"))


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
def test_schedules_start_rise_and_end_as_they_say(schedule: str) -> None:
    (optimizer,), schedules = adamw([torch.nn.Parameter(torch.zeros(1))], 100, 1e-3, 0.0, schedule)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for entry in schedules:
            assert entry["interval"] == "step"
            entry["scheduler"].step()
    assert max(rates) == pytest.approx(1e-3)
    if schedule == "constant":
        assert set(rates) == {1e-3}
    else:
        assert rates[-1] < 1e-5
        assert (rates[0] < 1e-4) == (schedule == "one_cycle")


def test_the_score_is_the_mean_over_all_pixels_of_all_cells() -> None:
    learner = task(size=32, widths=(2, 3))
    images = torch.rand(7, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    score = scored(learner, images, torch.full((1, 32, 32), 0.25))
    learner.eval()
    with torch.no_grad():
        assert score.mse == pytest.approx(
            (learner(images) - images).square().mean().item(), rel=1e-5
        )
    assert score.mse_of_mean_image == pytest.approx(
        (images - 0.25).square().mean().item(), rel=1e-5
    )
    assert 0 <= score.dead_latents < 0.5


def test_an_encoder_that_gives_one_latent_to_all_cells_has_collapsed() -> None:
    learner = task(size=32, widths=(2, 3))
    for parameter in learner.encoder.parameters():
        torch.nn.init.zeros_(parameter)
    images = torch.rand(7, 1, 32, 32)
    score = scored(learner, images, images.mean(dim=0))
    assert score.dead_latents == 1 and score.collapsed


@pytest.mark.parametrize(
    "mse, dead, collapsed",
    [(0.01, 0.5, False), (0.02, 0.0, True), (0.03, 0.0, True), (0.01, 0.995, True)],
)
def test_collapse_is_no_gain_over_the_mean_image_or_dead_latents(
    mse: float, dead: float, collapsed: bool
) -> None:
    assert ReconstructionScore(mse, 0.02, dead, 1.0).collapsed is collapsed


def test_rankme_is_the_entropy_of_the_singular_values() -> None:
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    assert rankme((directions @ np.diag([2.0] * 3 + [0.0] * 9)).astype(np.float32)) == (
        pytest.approx(3, rel=1e-3)  # three equal ones
    )
    shares = np.array([0.6, 0.3, 0.1])
    latents = directions[:, :3] @ np.diag(5 * shares)
    wanted = np.exp(-(shares * np.log(shares)).sum())
    assert rankme(latents.astype(np.float32)) == pytest.approx(wanted, rel=1e-3)
    assert rankme(np.zeros((4, 3), np.float32)) < 1.1  # nothing was learned
