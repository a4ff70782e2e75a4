import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hep2.data import images
from hep2.data.cells import Cells
from hep2.data.image_source import ImageSource
from hep2.data.sources import folder
from hep2.data.store import open_cells
from hep2.errors import HEp2Error


def noise(seed: int, dtype: type = np.uint8) -> np.ndarray:
    high = np.iinfo(dtype).max + 1
    return np.random.default_rng(seed).integers(0, high, (16, 16)).astype(dtype)


NAMES = ("a/s1/1.png", "a/s2/1.png", "b/s3/1.png", "b/s4/1.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "data" / name), noise(seed))
    return tmp_path / "data"


def opened(root: Path, size: int = 16, channel: str = "green", cache: str = "cache") -> Cells:
    return open_cells(folder(str(root)), root.parent / cache, size, channel)


def store_of(root: Path, cache: str = "cache") -> Path:
    (store,) = (root.parent / cache).iterdir()
    return store


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("an image was opened")

    monkeypatch.setattr(images, "load_cell", fail)
    monkeypatch.setattr(cv2, "imdecode", fail)
    monkeypatch.setattr(images.Image, "open", fail)


def test_8_bit_store(root: Path) -> None:
    cells = opened(root)
    assert cells.images.shape == (4, 1, 16, 16)
    assert cells.images.dtype == np.uint8
    assert cells.full_scale == 255
    for position in range(4):
        assert np.array_equal(cells.images[position, 0], noise(position))
    assert isinstance(cells.images, np.memmap)
    assert not cells.images.flags.writeable
    assert len(cells.key) == 16
    assert set(cells.key) <= set("0123456789abcdef")
    names = sorted(file.name for file in store_of(root).iterdir())
    assert names == ["cells.csv", "images.npy", "meta.json"]


def test_one_16_bit_image_makes_all_16_bit(root: Path) -> None:
    deep = noise(7, np.uint16)
    cv2.imwrite(str(root / "b/s3/1.png"), deep)
    cells = opened(root)
    assert cells.images.dtype == np.uint16
    assert cells.full_scale == 65535
    assert np.array_equal(cells.images[2, 0], deep)
    for position in (0, 1, 3):
        assert np.array_equal(cells.images[position, 0], noise(position).astype(np.uint16) * 257)


def test_second_run_opens_no_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(root)
    forbid_decoding(monkeypatch)
    second = opened(root)
    assert second.key == first.key
    assert np.array_equal(second.images, first.images)
    for name in ("ids", "labels", "specimens", "pools"):
        assert np.array_equal(getattr(first, name), getattr(second, name))


def test_a_changed_image_is_noticed(root: Path) -> None:
    first = opened(root)
    cv2.imwrite(str(root / NAMES[0]), noise(50))
    os.utime(root / NAMES[0], ns=(1, 1))
    second = opened(root)
    assert second.key != first.key
    assert np.array_equal(second.images[0, 0], noise(50))
    assert np.array_equal(first.images[0, 0], noise(0))


def test_touching_an_image_keeps_the_key(root: Path) -> None:
    first = opened(root)
    os.utime(root / NAMES[0], ns=(1, 1))
    assert opened(root).key == first.key


def test_key_changes_with_whatever_matters(root: Path) -> None:
    keys = {opened(root).key, opened(root, size=8).key, opened(root, channel="mean").key}
    (root / "a/s2").rename(root / "a/s5")
    keys.add(opened(root).key)
    (root / "b/s4/1.png").rename(root / "b/s4/2.png")
    keys.add(opened(root).key)
    (root / "b").rename(root / "c")
    keys.add(opened(root).key)
    assert len(keys) == 6


@pytest.mark.parametrize(
    ("deep", "keys"),
    [
        ((), ("7dd298b966f0e7d5", "d7dc974e5e7f725f")),
        ((0, 1, 2, 3), ("50079caa367596f4", "b6ddba4311ba6c69")),
        ((1, 3), ("fc0cc3103e9e1834", "59f0a404e1c68936")),
    ],
)
def test_keys_are_those_that_weights_were_bound_to_before(
    root: Path, deep: tuple[int, ...], keys: tuple[str, str]
) -> None:
    for seed in deep:
        cv2.imwrite(str(root / NAMES[seed]), noise(seed, np.uint16))
    assert (opened(root, 16).key, opened(root, 8).key) == keys


def test_moving_the_data_keeps_key_and_bytes(root: Path) -> None:
    first = opened(root, cache="one")
    shutil.copytree(root, root.parent / "other")
    second = opened(root.parent / "other", cache="two")
    assert first.key == second.key
    for name in ("images.npy", "cells.csv"):
        one, two = (store_of(root, cache) / name for cache in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def truncate(store: Path) -> None:
    with (store / "images.npy").open("r+b") as file:
        file.truncate(500)


def flip_a_pixel(store: Path) -> None:
    with (store / "images.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))
    os.utime(store / "images.npy", ns=(1, 1))


def replace_by_another_shape(store: Path) -> None:
    np.save(store / "images.npy", np.zeros((4, 1, 8, 8), np.uint8))


def replace_by_pickle(store: Path) -> None:
    np.save(store / "images.npy", np.array([{}], dtype=object), allow_pickle=True)


def drop_a_row(store: Path) -> None:
    lines = (store / "cells.csv").read_text().splitlines()
    (store / "cells.csv").write_text("\n".join(lines[:-1]) + "\n")


def change_a_label(store: Path) -> None:
    text = (store / "cells.csv").read_text()
    (store / "cells.csv").write_text(text.replace("1.png,a,s1", "1.png,b,s1"))


def empty_meta(store: Path) -> None:
    (store / "meta.json").write_text("{}")


def broken_meta(store: Path) -> None:
    (store / "meta.json").write_bytes(b"\xff[")


def meta_of_another_store(store: Path) -> None:
    meta = json.loads((store / "meta.json").read_text())
    (store / "meta.json").write_text(json.dumps({**meta, "key": "0" * 16}))


def no_meta(store: Path) -> None:
    (store / "meta.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_pixel,
        replace_by_another_shape,
        replace_by_pickle,
        drop_a_row,
        change_a_label,
        empty_meta,
        broken_meta,
        meta_of_another_store,
        no_meta,
    ],
)
def test_a_damaged_store_is_built_again(  # type: ignore[no-untyped-def]
    root: Path, damage, caplog: pytest.LogCaptureFixture
) -> None:
    first = opened(root)
    store, pixels, key = store_of(root), np.array(first.images), first.key
    del first
    damage(store)
    second = opened(root)
    assert f"the image cache {store} is built again" in caplog.text
    assert np.array_equal(second.images, pixels)
    assert second.labels.tolist() == [0, 0, 1, 1]
    caplog.clear()
    third = opened(root)
    assert not caplog.records
    assert third.key == second.key == key
    assert list(store.parent.iterdir()) == [store]


def test_a_store_that_was_deleted_is_built_again_without_a_word(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = opened(root).key
    shutil.rmtree(store_of(root))
    assert opened(root).key == key
    assert not caplog.records


def test_what_a_killed_process_had_begun_is_removed(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, store = opened(root).key, store_of(root)
    (store / "meta.json").unlink()
    (store / ".images.npy.x7f").write_bytes(b"half")
    (store.parent / f".{store.name}.lock").touch()
    assert opened(root).key == key
    assert "is built again" in caplog.text
    assert store_of(root) == store
    assert sorted(path.name for path in store.iterdir()) == ["cells.csv", "images.npy", "meta.json"]


def test_a_store_under_the_name_of_another_is_built_again(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = opened(root, size=8)
    other = store_of(root)
    large = opened(root)
    store = next(path for path in other.parent.iterdir() if path != other)
    shutil.rmtree(store)
    shutil.copytree(other, store)
    assert opened(root).key == large.key != small.key
    assert "is built again: meta.json was changed" in caplog.text


def test_a_copied_store_is_accepted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = opened(root)
    os.utime(store_of(root) / "images.npy", ns=(1, 1))  # as cp without -p leaves it
    forbid_decoding(monkeypatch)
    assert opened(root).key == cells.key


def test_builders_at_once_agree_and_decode_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, load = [], images.load_cell

    def counted(file: Path, *how: Any) -> images.CellImage:
        decoded.append(file)
        return load(file, *how)

    monkeypatch.setattr(images, "load_cell", counted)

    def build(_: int) -> Cells:
        return opened(root)

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(build, range(6)))
    assert len({cells.key for cells in results}) == 1
    for cells in results:
        assert all(np.array_equal(cells.images[n, 0], noise(n)) for n in range(4))
    assert store_of(root).is_dir()  # one store and nothing else
    assert len(decoded) == 4


def test_a_failed_build_leaves_nothing(root: Path) -> None:
    (root / NAMES[1]).write_bytes(b"broken")
    with pytest.raises(HEp2Error, match=r"a/s2/1.png: the image cannot be decoded"):
        opened(root)
    assert list((root.parent / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written(root: Path) -> None:
    (root.parent / "cache").write_text("a file, not a folder")
    with pytest.raises(HEp2Error, match=r"cannot be written in .*cache_dir=<folder>"):
        opened(root)


@pytest.mark.parametrize("size", [0, -1, 7, 1025, 64.0, "64"])
def test_bad_image_size(root: Path, size: int) -> None:
    with pytest.raises(HEp2Error, match=rf"data\.image_size={size} must be a whole number"):
        opened(root, size=size)


def test_bad_name_and_channel(root: Path) -> None:
    with pytest.raises(HEp2Error, match=r"data\.name='\.\./x' may hold letters"):
        open_cells(folder(str(root), name="../x"), root.parent / "cache", 8, "green")
    with pytest.raises(HEp2Error, match=r"data\.channel=uv is unknown"):
        opened(root, channel="uv")


def test_many_images_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "AHEAD", 4)
    for n in range(18):
        file = tmp_path / "data" / "a" / f"s{n % 2}" / f"{n:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), noise(n))
    source = folder(str(tmp_path / "data"))
    assert isinstance(source, ImageSource)
    cells = open_cells(source, tmp_path / "cache", 16, "green")
    for position, identity in enumerate(cells.ids):
        assert np.array_equal(cells.images[position, 0], noise(int(identity[-7:-4])))
