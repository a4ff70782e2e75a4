from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from conftest import Configure, Trained
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional as F

from hep2.data.datamodule import HEp2DataModule
from hep2.data.fold import Fold
from hep2.data.inputs import CachedFeatures, CellImages
from hep2.data.views import oriented
from hep2.errors import HEp2Error
from hep2.features.extraction import cached, features_by
from hep2.features.transforms import Encoding
from hep2.run import fit
from hep2.stages.classifier import class_weights
from hep2.tasks.classification import Classification, MeanClassAccuracy, balanced_weights
from hep2.tasks.reconstruction import Reconstruction

NETWORK = {"image_size": 64, "widths": [4, 8, 8, 256]}


def classifier(freeze: bool = True, weights: list[float] | None = None) -> Classification:
    torch.manual_seed(0)
    return Classification(
        architecture="dcae",
        network=NETWORK,
        head={"architecture": "mlp", "widths": [12, 6], "dropout": 0.2},
        classes=["a", "b", "c", "d", "e"],
        freeze=freeze,
        optimizer={"lr": 1e-2, "weight_decay": 1e-2, "schedule": "one_cycle"},
        class_weights=weights,
        protocol="specimen",
        provenance={},
    )


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def moved(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    after = module.state_dict()
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


class CallsTrain(L.Callback):
    """What some code of others does: train mode for every module, in every epoch."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        pl_module.train()


def train_on_images(task: Classification, fold: Fold) -> None:
    """With the encoder in the loop: only then could it move."""
    data = HEp2DataModule(CellImages(fold.cells), fold.cells.labels, fold.split, 16, seed=0)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        callbacks=[CallsTrain()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(task, datamodule=data)
    assert trainer.global_step > 0


def test_head_training_leaves_every_tensor_of_a_frozen_encoder_and_moves_the_head(
    fold: Fold,
) -> None:
    task = classifier(freeze=True)
    encoder, head = copied(task.encoder), copied(task.head)
    assert any("running_mean" in name for name in encoder)  # buffers are what drifts unnoticed
    train_on_images(task, fold)
    assert moved(encoder, task.encoder) == set()
    assert moved(head, task.head) == head.keys()


def test_an_unfrozen_encoder_learns(fold: Fold) -> None:
    task = classifier(freeze=False)
    encoder = copied(task.encoder)
    train_on_images(task, fold)
    assert moved(encoder, task.encoder) == encoder.keys()


def test_an_explicit_train_leaves_a_frozen_encoder_in_evaluation() -> None:
    task = classifier(freeze=True)
    assert not task.encoder.training  # at construction: Lightning calls no train() itself
    encoder = copied(task.encoder)
    task.train()
    assert task.head.training and not any(module.training for module in task.encoder.modules())
    F.cross_entropy(task(torch.rand(8, 1, 64, 64)), torch.zeros(8, dtype=torch.long)).backward()
    assert moved(encoder, task.encoder) == set()
    assert all(parameter.grad is None for parameter in task.encoder.parameters())
    assert all(parameter.grad is not None for parameter in task.head.parameters())
    assert classifier(freeze=False).train().encoder.training


def test_the_head_of_a_run_holds_the_encoder_of_stage_one_bit_for_bit(trained: Trained) -> None:
    one, two = (
        torch.load(run.best, weights_only=True)["state_dict"]
        for run in (trained.dcae, trained.head)
    )
    names = {name for name in one if name.startswith("encoder.")}
    assert names == {name for name in two if name.startswith("encoder.")} and len(names) > 10
    assert all(torch.equal(one[name], two[name]) for name in names)


@pytest.fixture
def encoder(trained: Trained) -> nn.Module:
    task = Reconstruction.load_from_checkpoint(trained.dcae.best, weights_only=True)
    return task.encoder.requires_grad_(False).eval()


def test_cached_latents_give_the_logits_of_the_encoder_in_the_loop(
    encoder: nn.Module, trained: Trained, fold: Fold, cache_dir: Any
) -> None:
    inputs = CachedFeatures(features_by(Encoding(encoder), fold.cells, cache_dir, 1))
    task = Classification.load_from_checkpoint(trained.head.best, weights_only=True).eval()
    cells = np.concatenate([fold.split.val, fold.split.test])
    with torch.no_grad():
        by_cache = task.logits({"features": inputs.gather(cells, epoch=None)})
        in_loop = task.logits({"image": CellImages(fold.cells).gather(cells, epoch=None)})
    assert torch.allclose(by_cache, in_loop, atol=1e-5)
    assert torch.equal(by_cache.argmax(dim=1), in_loop.argmax(dim=1))
    assert by_cache.std(dim=0).min() > 1e-4  # cells differ, so a mixed-up row would show


def test_latents_are_the_mean_of_those_of_turned_images(
    encoder: nn.Module, fold: Fold, cache_dir: Any
) -> None:
    inputs = CachedFeatures(features_by(Encoding(encoder), fold.cells, cache_dir, 8))
    images = CellImages(fold.cells).gather(fold.split.train, epoch=None)
    with torch.no_grad():
        mean = torch.stack([encoder(oriented(images, turn)) for turn in range(8)]).mean(dim=0)
    for epoch in (None, 0, 3):
        assert torch.allclose(inputs.gather(fold.split.train, epoch), mean, atol=1e-6)


def test_a_head_on_averaged_latents_says_so(
    trained: Trained, configure: Configure, fold: Fold
) -> None:
    run = fit(
        configure(
            "stage=head",
            "features.orientations=4",
            "name=averaged",
            f"encoder={trained.dcae.best}",
        )
    )
    hparams = torch.load(run.best, weights_only=True)["hyper_parameters"]
    assert hparams["orientations"] == 4


def test_oriented_makes_the_eight_symmetries_of_a_square() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    made = {tuple(oriented(image, turn).flatten().tolist()) for turn in range(8)}
    assert len(made) == 8
    assert torch.equal(oriented(image, 0), image)


def test_other_weights_other_buffers_other_key(encoder: nn.Module) -> None:
    before = Encoding(encoder).key
    assert Encoding(encoder).key == before
    encoder.get_buffer("levels.2.running_mean")[0] += 1e-3
    assert Encoding(encoder).key != before


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", None])
def test_a_damaged_feature_file_is_made_anew(tmp_path: Any, damage: bytes | None) -> None:
    fill: Callable[..., None] = lambda out: out.__setitem__(slice(None), 7.0)  # noqa: E731
    cached(tmp_path, "k", (3, 2), fill)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-4] if damage is None else damage)
    assert np.array_equal(cached(tmp_path, "k", (3, 2), fill), np.full((3, 2), 7.0))
    assert list(tmp_path.iterdir()) == [file]


def test_a_whole_feature_file_is_not_made_again(tmp_path: Any) -> None:
    cached(tmp_path, "k", (3, 2), lambda out: out.fill(7.0))
    again = cached(tmp_path, "k", (3, 2), lambda out: out.fill(8.0))
    assert np.array_equal(again, np.full((3, 2), 7.0))
    assert np.array_equal(
        cached(tmp_path, "k", (4, 2), lambda out: out.fill(9.0)), np.full((4, 2), 9)
    )


def test_class_weights_weigh_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [1, 2, 4, 0, 3]  # whole numbers, as a command line gives them
    batch = {"features": torch.randn(10, 4096), "label": torch.arange(10) % 5}
    losses = {}
    for name, chosen in (("none", None), ("some", weights)):
        task = classifier(weights=chosen).eval()
        monkeypatch.setattr(task, "log", lambda *args, **kwargs: None)
        losses[name] = task.training_step(batch, 0)
        each = F.cross_entropy(task.logits(batch), batch["label"], reduction="none")
        weight = torch.tensor(chosen or [1.0] * 5)[batch["label"]]
        assert losses[name].item() == pytest.approx(
            (each * weight).sum().item() / weight.sum().item()
        )
    assert losses["none"] != losses["some"]


def test_balanced_weights_are_scikit_learns_and_absent_patterns_have_none() -> None:
    labels = np.array([0] * 10 + [1] * 5 + [3] * 1)
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    assert balanced_weights(labels, 5) == pytest.approx([*expected[:2], 0.0, expected[2], 0.0])


def test_configured_class_weights_are_of_the_training_cells(
    fold: Fold, configure: Configure
) -> None:
    asked = configure("stage=head", "stage.class_weights=balanced")
    assert class_weights(asked, fold) == balanced_weights(fold.cells.labels[fold.split.train], 5)
    assert class_weights(configure("stage=head"), fold) is None
    given = configure("stage=head", "stage.class_weights=[1,2,3,4,5]")
    assert class_weights(given, fold) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("wrong", ["[1,2]", "balance", "2"])
def test_wrong_class_weights_are_refused_with_the_classes(
    wrong: str, fold: Fold, configure: Configure
) -> None:
    cfg = configure("stage=head", f"stage.class_weights={wrong}")
    with pytest.raises(HEp2Error, match=r"must be null, balanced, or a list .* homogeneous, coar"):
        class_weights(cfg, fold)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40),
    st.integers(1, 7),
)
def test_mca_is_scikit_learns_mean_recall_of_the_classes_present(
    pairs: list[tuple[int, int]], size: int
) -> None:
    targets, outputs = (torch.tensor(column) for column in zip(*pairs, strict=True))
    metric = MeanClassAccuracy(5)
    for start in range(0, len(pairs), size):
        part = slice(start, start + size)
        metric.update(F.one_hot(outputs[part], 5).float(), targets[part])
    present = torch.unique(targets).tolist()
    expected = recall_score(targets, outputs, labels=present, average="macro", zero_division=0)
    assert metric.compute().item() == pytest.approx(expected, abs=1e-6)


def test_a_class_that_is_only_predicted_does_not_count() -> None:
    metric = MeanClassAccuracy(3)
    logits = F.one_hot(torch.tensor([0, 0, 2, 1]), 3).float()
    metric.update(logits, torch.tensor([0, 0, 0, 1]))  # 2 is only predicted: recalls 2/3 and 1
    assert metric.compute().item() == pytest.approx((2 / 3 + 1) / 2)
    metric.reset()
    assert torch.isnan(metric.compute())


def test_mixup_is_the_mean_of_two_losses_by_share(monkeypatch: pytest.MonkeyPatch) -> None:
    from hep2.tasks import classification

    torch.manual_seed(0)
    batch = {"features": torch.rand(6, 3), "label": torch.tensor([0, 1, 2, 0, 1, 2])}
    mixed, others, share = classification.mixed(batch, 0.4)
    wanted = share * batch["features"] + (1 - share) * batch["features"][others]
    assert torch.equal(mixed["features"], wanted) and sorted(others.tolist()) == list(range(6))
    assert 0 <= share <= 1 and torch.equal(mixed["label"], batch["label"])
    task = Classification(
        None,
        {"latent_size": 3},
        head={"architecture": "mlp", "widths": [4]},
        classes=["a", "b", "c"],
        freeze=True,
        optimizer={},
        class_weights=None,
        protocol="specimen",
        provenance={},
        mixup=0.4,
        label_smoothing=0.1,
    ).eval()
    monkeypatch.setattr(classification, "mixed", lambda *_: (mixed, others, share))
    with torch.no_grad():
        logits = task.head(mixed["features"])
    losses = [
        F.cross_entropy(logits, labels, label_smoothing=0.1)
        for labels in (batch["label"], batch["label"][others])
    ]
    with torch.no_grad():
        loss = task.training_step(batch, 0)
    assert float(loss) == pytest.approx(float(share * losses[0] + (1 - share) * losses[1]))
