"""No training step asks the device for a number: on a GPU each such question is a wait."""

from typing import Any

import lightning as L
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hep2.tasks.classification import Classification
from hep2.tasks.denoising import Denoising
from hep2.tasks.joint_embedding import JointEmbedding
from hep2.tasks.reconstruction import Reconstruction

ASKING = ("aten._local_scalar_dense.default", "aten.nonzero.default", "aten.equal.default")
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


class Asked(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.questions: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.questions += [str(func)] if str(func) in ASKING else []
        return func(*args, **(kwargs or {}))


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
    with Asked() as asked:
        task.training_step(BATCH, 0).backward()
    assert asked.questions == []
