"""Files that somebody else made: none of them runs code, whatever stands in them."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Configure, Trained, composed
from omegaconf import OmegaConf

from hep2.data import sources
from hep2.data.store import open_cells
from hep2.errors import HEp2Error
from hep2.features.extraction import cached
from hep2.run import fit
from hep2.rundir.directory import RunDir
from hep2.rundir.result import read_run


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.file}'",)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The file that a payload would make; that it can is tested first."""
    file = tmp_path / "made"
    pickle.loads(pickle.dumps(Payload(file)))
    assert file.is_file()
    file.unlink()
    return file


def as_pickle(payload: Any, file: Path) -> None:
    file.write_bytes(pickle.dumps(payload))


def as_checkpoint(payload: Any, file: Path) -> None:
    content = {"state_dict": {}, "hyper_parameters": {}, "epoch": 1, "extra": payload}
    torch.save(content, file)


def as_old_checkpoint(payload: Any, file: Path) -> None:
    torch.save({"state_dict": payload}, file, _use_new_zipfile_serialization=False)


WAYS = (as_pickle, as_checkpoint, as_old_checkpoint)


@pytest.mark.parametrize("write", WAYS)
def test_an_encoder_runs_no_code(
    write: Callable[[Any, Path], None], configure: Configure, made: Path, tmp_path: Path
) -> None:
    write(Payload(made), tmp_path / "best.ckpt")
    with pytest.raises(HEp2Error, match=r"best\.ckpt is damaged or not a checkpoint of hep2"):
        fit(configure("stage=head", f"encoder={tmp_path}/best.ckpt"))
    assert not made.exists()


@pytest.fixture
def begun(trained: Trained, tmp_path: Path, cache_dir: Path) -> tuple[RunDir, Any]:
    """A run that was interrupted behind its last epoch, and its configuration."""
    shutil.copytree(trained.runs_dir, tmp_path / "runs")
    path = tmp_path / "runs" / trained.dcae.path.relative_to(trained.runs_dir)
    (path / "result.json").unlink()
    return RunDir(path), composed(*TINY, f"runs_dir={tmp_path}/runs", f"cache_dir={cache_dir}")


@pytest.mark.parametrize("write", WAYS)
def test_resuming_runs_no_code(
    write: Callable[[Any, Path], None], begun: tuple[RunDir, Any], made: Path
) -> None:
    run, cfg = begun
    for file in (run.last, run.best):
        write(Payload(made), file)
    with pytest.raises(HEp2Error, match=r"last\.ckpt is damaged or not a checkpoint of hep2"):
        fit(cfg)
    assert not made.exists()


def test_an_image_cache_runs_no_code(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = sources.synthetic(cells=40, specimens=10)
    good = np.array(open_cells(source, tmp_path, 16, "green").images)
    file = next(tmp_path.rglob("images.npy"))
    np.save(file, np.array([Payload(made)], dtype=object), allow_pickle=True)
    cells = open_cells(source, tmp_path, 16, "green")
    assert np.array_equal(cells.images, good)
    as_pickle(Payload(made), file)
    open_cells(source, tmp_path, 16, "green")
    assert caplog.text.count("is built again") == 2
    assert not made.exists()


def test_a_feature_cache_runs_no_code(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "features-key.npy"

    def fill(out: np.ndarray) -> None:
        out[:] = 7

    for content in (pickle.dumps(Payload(made)), _object_array(Payload(made), tmp_path)):
        file.write_bytes(content)
        assert np.array_equal(cached(tmp_path, "key", (1, 1, 2), fill), [[[7, 7]]])
    assert not made.exists()


def _object_array(payload: Payload, folder: Path) -> bytes:
    np.save(folder / "objects.npy", np.array([payload], dtype=object), allow_pickle=True)
    return (folder / "objects.npy").read_bytes()


@pytest.mark.parametrize("group", ["logger", "callbacks", "trainer", "data.source"])
def test_no_target_of_a_stored_configuration_is_called(
    group: str, begun: tuple[RunDir, Any], made: Path
) -> None:
    run, cfg = begun
    stored = OmegaConf.load(run.config)
    hostile = {"_target_": "os.system", "command": f"touch '{made}'"}
    OmegaConf.update(stored, f"{group}.evil", hostile, force_add=True)
    OmegaConf.save(stored, run.config)
    if group == "logger":  # how a run is followed may differ
        fit(cfg)
        assert read_run(run.path).method == "dcae"
    else:
        with pytest.raises(HEp2Error, match=rf"{group}\.evil\._target_: os\.system there, absent"):
            fit(cfg)
    assert not made.exists()


def test_a_stored_configuration_is_read_as_plain_yaml(
    begun: tuple[RunDir, Any], made: Path
) -> None:
    run, cfg = begun
    run.config.write_text(f"name: !!python/object/apply:os.system [\"touch '{made}'\"]\n")
    with pytest.raises(HEp2Error, match=r"config\.yaml cannot be read"):
        fit(cfg)
    assert not made.exists()


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/b", "..", ".hidden", "", "a\nb"])
def test_a_name_does_not_lead_out_of_the_runs(name: str, configure: Configure) -> None:
    cfg = configure()
    cfg.name = name
    with pytest.raises(HEp2Error, match="cannot name a folder"):
        fit(cfg)


def test_an_image_behind_a_link_is_outside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "secret.png"
    root.mkdir()
    outside.touch()
    (root / "link.png").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    (root / "inside.png").symlink_to(root / "manifest.csv")
    lines = ["image,label,specimen", "link.png,a,s", "folder/secret.png,a,s", "inside.png,a,s"]
    (root / "manifest.csv").write_text("\n".join(lines))
    problems = sources.manifest(str(root)).problems
    assert sum("lies outside the data root" in problem for problem in problems) == 2
    allowed = sources.manifest(str(root), allow_outside=True).problems
    assert not any("lies outside" in problem for problem in allowed)


def test_a_flipped_bit_in_a_checkpoint_is_no_weight(
    begun: tuple[RunDir, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """torch itself would read it without a word."""
    run, cfg = begun
    content = bytearray(run.last.read_bytes())
    content[len(content) // 2] ^= 64
    run.last.write_bytes(content)
    torch.load(run.last, weights_only=True)
    fit(cfg)
    assert "last.ckpt is damaged" in caplog.text
    assert "going on from" in caplog.text


def test_a_truncated_checkpoint_falls_back_and_ends_in_the_same_numbers(
    begun: tuple[RunDir, Any], trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    run, cfg = begun
    run.last.write_bytes(run.last.read_bytes()[:-1000])
    fit(cfg)
    assert "best.ckpt, epoch" in caplog.text
    figures = [json.loads(one.result.read_text())["metrics"] for one in (run, trained.dcae)]
    assert figures[0] == figures[1]
    assert run.predictions.read_bytes() == trained.dcae.predictions.read_bytes()
    states = [torch.load(one.last, weights_only=True)["state_dict"] for one in (run, trained.dcae)]
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())
    assert not run.previous.exists()


def test_the_checkpoint_before_the_last_is_kept_and_gone_on_from(
    trained: Trained,
    configure: Configure,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class KilledError(Exception):
        pass

    def killed(*_: Any) -> None:
        if RunDir(path).last.is_file() and torch.load(path / "last.ckpt")["epoch"] == 3:
            raise KilledError

    path = Path(configure().runs_dir) / "default/synthetic-specimen/dcae-dcae/fold0/seed0"
    with monkeypatch.context() as patch:
        patch.setattr("hep2.stages.callbacks.EpochSeed.on_train_epoch_start", killed)
        with pytest.raises(KilledError):
            fit(configure())
    epochs = [torch.load(path / name)["epoch"] for name in ("previous.ckpt", "last.ckpt")]
    assert epochs == [2, 3]
    (path / "last.ckpt").write_bytes((path / "last.ckpt").read_bytes()[:5000])
    fit(configure())
    assert "previous.ckpt, epoch 2" in caplog.text
    assert (path / "predictions.csv").read_bytes() == trained.dcae.predictions.read_bytes()
    assert not (path / "previous.ckpt").exists()


def test_what_a_killed_process_had_begun_to_write_is_removed(begun: tuple[RunDir, Any]) -> None:
    run, cfg = begun
    (run.path / ".last.ckpt.x7f").write_bytes(b"half")
    run.claim(cfg)
    assert sorted(path.name for path in run.path.glob(".*")) in ([], [".lock"])
