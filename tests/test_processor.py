"""The precision of a training, by what the processor can do."""

from pathlib import Path

import pytest
from conftest import composed
from omegaconf import OmegaConf

from hep2 import processor
from hep2.errors import HEp2Error
from hep2.rundir.directory import RunDir, configuration_differences
from hep2.rundir.layout import run_path

ABLE, OLD = {"avx2", "avx512_bf16"}, {"avx2", "avx512f"}


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "any_gpu", lambda: False)


@pytest.mark.parametrize(
    ("words", "flags", "expected"),
    [
        ("stage=dcae", ABLE, "bf16-mixed"),
        ("stage=dcae", {"amx_bf16"}, "bf16-mixed"),
        ("stage=dcae", OLD, "32-true"),
        ("stage=dcae", set(), "32-true"),
        ("experiment=cnn trainer.accelerator=cpu", ABLE, "bf16-mixed"),
        ("experiment=dcae_plus", ABLE, "32-true"),  # the head: a small perceptron
        ("experiment=lenet", ABLE, "32-true"),
        ("experiment=dense_ae_mlp stage=dense_ae", ABLE, "32-true"),
        ("stage=dcae trainer.accelerator=gpu", ABLE, "32-true"),
        ("stage=dcae trainer=gpu", OLD, "bf16-mixed"),
        ("stage=dcae trainer.precision=32-true", ABLE, "32-true"),
    ],
)
def test_only_what_gains_is_trained_in_bf16(
    words: str, flags: set[str], expected: str, without_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "flags", lambda: flags)
    assert composed(*words.split()).trainer.precision == expected


def test_a_gpu_in_sight_is_left_to_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "flags", lambda: ABLE)
    monkeypatch.setattr(processor, "any_gpu", lambda: True)
    assert composed("stage=dcae").trainer.precision == "32-true"
    assert composed("stage=dcae", "trainer.accelerator=cpu").trainer.precision == "bf16-mixed"


def test_a_run_is_not_resumed_in_another_precision(
    tmp_path: Path, without_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another kind of processor it is refused; the precision on the command line goes on."""
    words = ("stage=dcae", f"runs_dir={tmp_path}")
    monkeypatch.setattr(processor, "flags", lambda: ABLE)
    begun = composed(*words)
    run = RunDir(run_path(begun))
    run.path.mkdir(parents=True)
    run.config.write_text(OmegaConf.to_yaml(begun, resolve=True))
    run.last.touch()
    monkeypatch.setattr(processor, "flags", lambda: OLD)
    with pytest.raises(HEp2Error, match=r"32-true asked\): trainer\.precision=bf16-mixed goes on"):
        run.check(composed(*words))
    run.check(composed(*words, "trainer.precision=bf16-mixed"))


def test_a_grid_that_is_not_tried_makes_no_other_run() -> None:
    stored = OmegaConf.to_container(composed("experiment=dcae_mlp", "stage=dcae"), resolve=True)
    asked = composed("experiment=dcae_svm", "stage=dcae")
    assert configuration_differences(stored, asked) == []
    tuned = composed("experiment=dcae_svm", "stage=dcae", "stage.tuned=true")
    assert any(line.startswith("tuning.grid") for line in configuration_differences(stored, tuned))


def test_linux_is_read_as_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: A: B\nflags\t\t: fpu amx_bf16\n\nflags\t: x\n")
    monkeypatch.setattr(processor, "CPUINFO", file)
    processor._fields.cache_clear()
    assert (processor.name(), processor.flags()) == ("A: B", {"fpu", "amx_bf16"})
    file.unlink()
    processor._fields.cache_clear()
    assert (processor.name(), processor.flags()) == ("not known", set())
    processor._fields.cache_clear()
