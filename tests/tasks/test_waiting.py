"""No training step waits for a GPU: it asks for no number, and copies none there."""

from typing import Any

import lightning as L
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hep2.tasks.classification import Classification
from hep2.tasks.denoising import Denoising
from hep2.tasks.joint_embedding import JointEmbedding
from hep2.tasks.reconstruction import Reconstruction

# Numbers read from the device, shapes that hang on values, numbers brought there one by one.
WAITS = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "lift_fresh")
ALIKE: dict[str, Any] = {
    "architecture": "dcae",
    "network": {"image_size": 16, "widths": [4, 8]},
    "optimizer": {"lr": 1e-3, "weight_decay": 0.0, "schedule": "constant"},
    "provenance": {"seed": 3},
}
BATCH = {
    "image": torch.rand(4, 1, 16, 16),
    "index": torch.arange(4),
    "label": torch.tensor([0, 1, 0, 1]),
    "specimen": torch.tensor([0, 0, 1, 1]),
}


class Waits(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = str(func).split(".")[1]
        devices = {each.device for each in (*args, found) if isinstance(each, torch.Tensor)}
        if name in WAITS or ("copy" in name and len(devices) > 1):
            self.seen.append(name)
        return found


def agreement(kind: str) -> JointEmbedding:
    pose = {"rotate": 180, "scale": 0.15, "translate": 0.05}
    return JointEmbedding(kind, "specimen", 0.5, pose, [8, 8], 0.2, loss="mse", **ALIKE)


TASKS = {
    "reconstruction": lambda: Reconstruction(loss="mse", **ALIKE),
    "denoising": lambda: Denoising(loss="mse", **ALIKE),
    "nt_xent": lambda: agreement("nt_xent"),
    "vicreg": lambda: agreement("vicreg"),
    "classification": lambda: Classification(
        head={"architecture": "mlp", "widths": [8], "dropout": 0.3}, classes=["a", "b"],
        freeze=False, class_weights=[1.0, 1.0], protocol="specimen", mixup=0.4,
        label_smoothing=0.1, **ALIKE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_no_step_waits(name: str) -> None:
    task: L.LightningModule = TASKS[name]()
    task.training_step(BATCH, 0).backward()  # what is copied once has been copied then
    with Waits() as waits:
        task.training_step(BATCH, 0).backward()
    assert waits.seen == []


ON_META = [name for name in TASKS if name != "classification"]


@pytest.mark.parametrize("name", ON_META)  # no Beta distribution on "meta"
def test_no_step_copies_from_one_device_to_another(name: str) -> None:
    """A tensor of the processor beside a batch on "meta", a device without values."""
    task: L.LightningModule = TASKS[name]().to("meta")
    batch = {key: value.to("meta") for key, value in BATCH.items()}
    task.training_step(batch, 0).backward()
    with Waits() as waits:
        task.training_step(batch, 0).backward()
    assert waits.seen == []
