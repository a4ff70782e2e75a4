"""Every key of Lightning's Trainer works, or is refused in one sentence before anything begins."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from conftest import Configure, composed

from hep2.errors import HEp2Error
from hep2.run import fit
from hep2.rundir.directory import RunDir
from hep2.sweep.jobs import plan
from hep2.tasks.reconstruction import Reconstruction
from hep2.trainer import ONLY, WORKS, check_trainer, precision_of, trainer_faults

KEYS = [key for key in inspect.signature(L.Trainer.__init__).parameters if key != "self"]
SHORT = ("stage=dcae", "stage.epochs=1", "protocol.validation=0.2")

SAME = {  # a value of each key that works, and changes no number
    "accelerator": "cpu", "strategy": "auto", "devices": 1, "num_nodes": 1, "precision": 32,
    "max_epochs": 1, "min_epochs": 1, "limit_train_batches": 1.0, "limit_val_batches": 1.0,
    "num_sanity_val_steps": 2, "log_every_n_steps": 50, "enable_progress_bar": "true",
    "enable_model_summary": "true", "gradient_clip_algorithm": "value", "deterministic": "warn",
    "benchmark": "false", "inference_mode": "false", "profiler": "simple",
    "detect_anomaly": "true", "sync_batchnorm": "false", "reload_dataloaders_every_n_epochs": 1,
    "enable_autolog_hparams": "false",
}  # fmt: skip
OTHER = {"accumulate_grad_batches": 2, "gradient_clip_val": 1e-4}  # and those that change them
REFUSED = {  # values that would be ignored, break a run, or make its numbers others than they seem
    "logger": ["csv"], "callbacks": ["[]"], "default_root_dir": ["here"],
    "fast_dev_run": ["true", 2], "max_steps": [10, 0], "min_steps": [10],
    "max_time": ["00:00:00:01", "{minutes:1}"], "limit_test_batches": [1, 0.5],
    "limit_predict_batches": [1], "overfit_batches": [1, 0.5], "val_check_interval": [0.5, 1, 2],
    "check_val_every_n_epoch": [2, "null"], "enable_checkpointing": ["false"],
    "use_distributed_sampler": ["true"], "barebones": ["true"], "plugins": ["[]", "x"],
    "model_registry": ["mine"],
}  # fmt: skip


def predictions(run: RunDir) -> bytes:
    return run.predictions.read_bytes()


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> bytes:
    from conftest import TINY

    where = (f"runs_dir={tmp_path_factory.mktemp('usual')}", f"cache_dir={cache_dir}")
    return predictions(fit(composed(*TINY, *SHORT, *where)))


@pytest.mark.filterwarnings(
    "ignore:Anomaly Detection has been enabled", "ignore:.*logging interval"
)
@pytest.mark.parametrize("key", KEYS)
def test_every_key_works_or_is_refused(
    key: str, usual: bytes, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of a newer Lightning fails here until it is decided."""
    if key in WORKS:
        cfg = configure(*SHORT, f"++trainer.{key}={(SAME | OTHER)[key]}")
        assert (predictions(fit(cfg)) == usual) == (key in SAME)
        return
    monkeypatch.setattr("hep2.run.open_fold", None)  # no cell is looked at
    for value in REFUSED[key]:
        with pytest.raises(HEp2Error, match=rf"^trainer\.{key}=\S+( \S+)? is refused: \w") as told:
            fit(configure(*SHORT, f"++trainer.{key}={value}"))
        assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_no_key_is_decided_twice() -> None:
    assert not WORKS & set(ONLY)
    assert WORKS | set(ONLY) == set(KEYS)


@pytest.mark.parametrize("key", ONLY)
def test_what_lightning_does_anyway_may_be_said(key: str) -> None:
    default = inspect.signature(L.Trainer.__init__).parameters[key].default
    ours = {"use_distributed_sampler": False}
    assert trainer_faults({key: ours.get(key, default)}) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"precision": 64}, "trainer.precision=64 is refused: weights are kept in float32"),
        ({"precision": "64-true"}, "choose 32-true, bf16-mixed or 16-mixed"),
        ({"precision": "bf16-true"}, "choose 32-true, bf16-mixed or 16-mixed"),
        ({"precision": "16-mixed", "accelerator": "cpu"}, "needs a GPU: choose bf16-mixed"),
        ({"strategy": "fsdp"}, "trainer.strategy=fsdp is refused: a checkpoint holds whole"),
        ({"strategy": {"_target_": "lightning.pytorch.strategies.FSDPStrategy"}}, "auto or ddp"),
        ({"max_epochs": 0}, "trainer.max_epochs=0 (or stage.epochs) must be a whole number, 1"),
        ({"max_epochs": -1}, "whole number, 1 or more"),
        ({"max_epochs": "many"}, "whole number, 1 or more"),
        ({"max_epochs": True}, "whole number, 1 or more"),
        ({"min_epochs": 9, "max_epochs": 5}, "is more than stage.epochs, 5: lower it"),
        ({"min_epochs": 1.5}, "whole number, 0 or more"),
        ({"limit_train_batches": 0}, "must be a number of batches, from 1, or a share of them"),
        ({"limit_train_batches": 1.5}, "a share of them, up to 1.0"),
        ({"limit_train_batches": True}, "a share of them, up to 1.0"),
        ({"limit_val_batches": 0}, "protocol.validation=0 learns from all training specimens"),
        ({"limit_val_batches": 0.0}, "is refused: every epoch is validated at its end"),
        ({"num_sanity_val_steps": -2}, "or -1 for all of them"),
        ({"log_every_n_steps": -1}, "whole number, 0 or more"),
        ({"accumulate_grad_batches": 0}, "whole number, 1 or more"),
        ({"gradient_clip_val": -1}, "must be a number, 0 or more"),
        ({"gradient_clip_val": "x"}, "must be a number, 0 or more"),
        ({"enable_progress_bar": "no"}, "must be true or false"),
        ({"sync_batchnorm": True, "accelerator": "auto"}, "add trainer.accelerator=gpu"),
    ],
)
def test_values_that_cannot_work_are_told(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(HEp2Error, match=re.escape(message)):
        check_trainer(setting)


def test_all_faults_are_told_at_once() -> None:
    assert len(trainer_faults({"max_time": "1", "precision": 64, "devices": 1})) == 2


def test_a_sweep_is_refused_as_a_whole() -> None:
    words = (["fold=0"], ["fold=1", "+trainer.max_time=00:00:00:01"])
    with pytest.raises(HEp2Error, match=r"^trainer\.max_time=00:00:00:01 is refused"):
        plan(words, [composed(*line) for line in words])


@pytest.mark.parametrize("precision", [32, "null", "bf16"])
def test_an_alias_is_what_it_stands_for(
    precision: Any, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TF32 is for those who ask for less than float32."""
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    cfg = configure("stage=dcae", "stage.epochs=1", f"trainer.precision={precision}")
    mixed = str(precision).startswith("bf16")
    assert precision_of(cfg.trainer) == ("bf16-mixed" if mixed else "32-true")
    assert fit(cfg).finished
    assert asked == ["high"] * mixed


STOP = "lightning.pytorch.callbacks.EarlyStopping"


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (f"_target_:{STOP},monitor:val/loss", "callbacks.stop watches val/loss, but no specimen"),
        (f"_target_:{STOP},monitor:val_loss", "drop it by ~callbacks.stop"),
        (f"_target_:{STOP},monitor:train/los", "which is not available"),
        (
            "_target_:lightning.pytorch.callbacks.Timer,duration:{seconds:1}",
            "callbacks.stop is refused: the numbers would depend on the machine's speed",
        ),
    ],
)
def test_a_callback_that_cannot_work_is_one_sentence(
    callback: str, message: str, configure: Configure
) -> None:
    cfg = configure("stage=dcae", "protocol.validation=0", f"+callbacks.stop={{{callback}}}")
    with pytest.raises(HEp2Error, match=re.escape(message)) as told:
        fit(cfg)
    assert "\n" not in str(told.value)


def test_early_stopping_with_validation_stops(configure: Configure) -> None:
    stop = f"+callbacks.stop={{_target_:{STOP},monitor:val/loss,patience:1,min_delta:9}}"
    run = fit(configure("stage=dcae", "protocol.validation=0.2", stop))
    assert json.loads(run.result.read_text())["epochs"] == 2


def test_a_training_that_was_stopped_early_is_not_gone_on_with(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted between its training and its result."""
    stop = f"+callbacks.stop={{_target_:{STOP},monitor:train/loss,patience:1,min_delta:9}}"
    undisturbed = fit(configure("stage=dcae", stop, "name=undisturbed"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("hep2.stages.autoencoder.AutoencoderStage.score", interrupted)
        fit(configure("stage=dcae", stop))
    run = fit(configure("stage=dcae", stop))
    assert predictions(run) == predictions(undisturbed)
    epochs = [json.loads(one.result.read_text())["epochs"] for one in (run, undisturbed)]
    assert epochs == [2, 2]


def interrupted(self: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("limit", [0.01, 3])
def test_a_share_that_is_no_batch_is_one_sentence(limit: float, configure: Configure) -> None:
    cfg = configure("stage=dcae", "stage.epochs=1", f"+trainer.limit_val_batches={limit}",
                    "protocol.validation=0.2")  # fmt: skip
    if limit == 3:
        assert fit(cfg).finished
        return
    with pytest.raises(HEp2Error, match="Please increase the `limit_val_batches` argument"):
        fit(cfg)


@pytest.mark.parametrize(
    "limit",
    [
        "+trainer.limit_train_batches=3",
        "+trainer.limit_train_batches=0.4",
        "+stage.epoch_batches=3",
    ],
)
def test_short_epochs_are_all_of_one_length(
    limit: str, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight batches make an epoch of this fold; the schedule ends with the training."""
    seen: list[tuple[int, list[int]]] = []
    rates: list[float] = []
    step = Reconstruction.training_step

    def watched(self: Reconstruction, batch: Any, number: int) -> Any:
        seen.append((self.trainer.current_epoch, batch["index"].tolist()))
        rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        if stopped_at == len(seen):
            raise KeyError("stopped")
        return step(self, batch, number)

    monkeypatch.setattr(Reconstruction, "training_step", watched)
    cfg = configure("stage=dcae", "stage.epochs=4", limit)
    stopped_at = 8  # in the third epoch
    with pytest.raises(KeyError):
        fit(cfg)
    interrupted, stopped_at = seen[:6], 0
    seen.clear()
    run = fit(cfg)
    whole = interrupted + seen
    assert [epoch for epoch, _ in whole] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert rates[-1] < 1e-2 / 100, "the one-cycle schedule has come down"
    for start in range(0, 12, 3):
        cells = [cell for _, batch in whole[start : start + 3] for cell in batch]
        assert len(set(cells)) == len(cells), "no cell twice in an epoch"
    seen.clear()
    other = fit(configure("stage=dcae", "stage.epochs=4", "name=other", limit))
    assert seen == whole
    assert predictions(run) == predictions(other)
