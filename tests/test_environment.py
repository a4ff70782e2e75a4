"""Surroundings that are unkind: odd paths, odd names, folders that cannot be written."""

import itertools
import json
import os
import resource
import shutil
import tempfile
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from conftest import Configure, Trained
from PIL import Image

from hep2.data import datamodule as shared_memory
from hep2.data import sources
from hep2.data.datamodule import check_room
from hep2.data.store import open_cells
from hep2.errors import HEp2Error
from hep2.features.extraction import cached
from hep2.run import fit
from hep2.rundir.layout import run_directories
from hep2.rundir.result import read_run

ODD = "a b=c,d[e]{f}'g\"h é $HOME %s"


def test_folders_with_odd_names(configure: Configure, tmp_path: Path) -> None:
    cfg = configure("stage.epochs=1")
    cfg.runs_dir = str(tmp_path / ODD)
    run = fit(cfg)
    assert run_directories(tmp_path / ODD / "default") == ([run.path], [])
    assert read_run(run.path).method == "dcae"
    assert fit(cfg).path == run.path  # finished, and found again


@pytest.mark.parametrize("where", ["runs_dir", "cache_dir"])
def test_a_file_in_the_place_of_a_folder(where: str, configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cfg = configure("stage.epochs=1")
    cfg[where] = str(tmp_path / "file" / "below")
    with pytest.raises(HEp2Error, match="choose another folder"):
        fit(cfg)


def test_no_home(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert fit(configure("stage.epochs=1")).finished


def test_a_full_disk_is_named_before_features_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(HEp2Error, match=r"No space left on device; free 0 MB there"):
        cached(tmp_path, "key", (1, 1, 1), lambda _: pytest.fail("computed"))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_while_images_are_decoded_is_named(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))  # bytes; 40 cells need 10,240
    try:
        with pytest.raises(HEp2Error, match=r"cannot be written in .*File too large; free some sp"):
            open_cells(sources.synthetic(cells=40, specimens=10), tmp_path, 16, "green")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_is_read_only_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, fill = sources.synthetic(cells=40, specimens=10), np.ndarray.fill
    images = np.array(open_cells(source, tmp_path, 16, "green").images)
    features = np.array(cached(tmp_path, "key", (2, 1, 3), lambda out: fill(out, 7)))

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("mkdir", "rename", "replace", "unlink"):
        monkeypatch.setattr(os, name, read_only)
    monkeypatch.setattr(tempfile, "mkstemp", read_only)
    assert np.array_equal(open_cells(source, tmp_path, 16, "green").images, images)
    kept = cached(tmp_path, "key", (2, 1, 3), lambda _: pytest.fail("computed"))
    assert np.array_equal(kept, features)
    with pytest.raises(HEp2Error, match=r"Read-only file system; .* another .*cache_dir=<folder>"):
        open_cells(source, tmp_path, 32, "green")
    with pytest.raises(HEp2Error, match=r"Read-only file system; .* another cache_dir"):
        cached(tmp_path, "other", (2, 1, 3), lambda _: pytest.fail("computed"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="names of open files")
def test_every_file_is_on_the_disk_before_it_has_its_name(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, sync = {}, os.fsync

    def spy(handle: int) -> None:
        synced[os.fstat(handle).st_ino] = os.readlink(f"/proc/self/fd/{handle}")
        sync(handle)

    monkeypatch.setattr(os, "fsync", spy)
    for stage in ("dcae", "head"):
        cfg = configure(f"stage={stage}", "stage.epochs=1")
        cfg.cache_dir = str(tmp_path / "cache")
        fit(cfg)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    names = {path.name for path in files}
    assert names > {"config.yaml", "last.ckpt", "result.json", "images.npy", "predictions.csv"}
    assert [path for path in files if path.stat().st_ino not in synced] == []
    assert [path for path in files if synced[path.stat().st_ino] == str(path)] == []


def test_a_file_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    for number, name in enumerate((b"s1/\xff.png", b"s2/y.png")):
        file = os.fsencode(tmp_path) + b"/cells/a/" + name
        os.makedirs(os.path.dirname(file))
        with open(file, "wb") as opened:
            Image.fromarray(np.eye(16 + number, dtype=np.uint8)).save(opened, "PNG")
    source = sources.folder(str(tmp_path / "cells"))
    with pytest.raises(HEp2Error, match=r"'a/s1/\\udcff\.png': a name that is not UTF-8; rename"):
        open_cells(source, tmp_path / "cache", 16, "green")


def test_workers_that_have_too_little_shared_memory_are_refused(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch would wait for ever for a batch that did not fit."""
    batch = 8 * (64 * 64 * 4 + 8 + 8)  # pixels, label, position
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(5 * batch - 1))
    message = r"data\.workers=2 needs 0\.7 MB of shared memory, but .* has 0\.7 MB: use data\.work"
    with pytest.raises(HEp2Error, match=message):
        fit(configure("data.workers=2"))
    check_room(1 << 60, workers=0)
    check_room((5 * batch - 1) // 5, workers=2)
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "of another system")
    check_room(batch, workers=2)


def test_a_clock_that_jumps_changes_nothing(
    trained: Trained, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, hours = time.time(), iter(itertools.cycle((0, -30, 5000, -9000)))
    monkeypatch.setattr(time, "time", lambda: now + 3600 * next(hours))
    run = fit(configure())
    assert run.predictions.read_bytes() == trained.dcae.predictions.read_bytes()
    found, expected = (json.loads(one.result.read_text()) for one in (run, trained.dcae))
    assert found["metrics"] == expected["metrics"]
    assert 0 <= found["seconds"] < 600
