import random
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT
from helpers.small_sets import opened
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf

from hep2.data import sources
from hep2.data.image_source import ordered_classes
from hep2.data.store import open_cells
from hep2.errors import HEp2Error

CONF = ROOT / "conf" / "data"
REAL = ROOT.parent / "shared" / "i3a"


def write_cell(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12)).astype(np.uint8)
    assert cv2.imwrite(str(file), pixels)


def contest(root: Path) -> Path:
    """Four cells, out of order; two classes, each of two specimens."""
    labels = {"00002": "Golgi", "00001": "Golgi", "00010": "Homogeneous", "00003": "Homogeneous"}
    write_cell(root / "images" / "00001.png", 1)
    write_cell(root / "images" / "deep" / "2.bmp", 2)
    write_cell(root / "3.tif", 3)
    write_cell(root / "images" / "00010.PNG", 10)
    write_cell(root / "images" / "00001_Mask.png", 99)
    lines = [f"{identity},{label}\n" for identity, label in labels.items()]
    (root / "gt_training.csv").write_text("Image ID,Image class\n" + "".join(lines))
    return root


def error(source: Any, tmp_path: Path) -> str:
    with pytest.raises(HEp2Error) as caught:
        opened(source, tmp_path)
    return str(caught.value)


def test_i3a_as_the_contest_ships_it(tmp_path: Path) -> None:
    root = contest(tmp_path / "data")
    cells = opened(sources.i3a(str(root)), tmp_path)
    assert cells.ids.tolist() == ["00001", "00002", "00003", "00010"]
    assert cells.classes == ("Homogeneous", "Golgi")
    assert cells.labels.tolist() == [1, 1, 0, 0]
    assert cells.specimens.tolist() == [""] * 4
    assert cells.pools.tolist() == [""] * 4
    for position, seed in enumerate((1, 2, 3, 10)):
        pixels = np.random.default_rng(seed).integers(0, 256, (12, 12)).astype(np.uint8)
        expected = cv2.resize(pixels, (8, 8), interpolation=cv2.INTER_AREA)
        assert np.array_equal(cells.images[position, 0], expected)


def test_i3a_specimens_tolerate_padding(tmp_path: Path) -> None:
    root = contest(tmp_path / "data")
    (root / "specimens.csv").write_text("Image ID,Specimen\n1,g1\n2,g2\n003,h1\n10,h2\n77,h9\n")
    cells = opened(sources.i3a(str(root)), tmp_path)
    assert cells.specimens.tolist() == ["g1", "g2", "h1", "h2"]


def test_i3a_bad_rows(tmp_path: Path) -> None:
    root = contest(tmp_path / "data")
    write_cell(root / "copy" / "01.png", 5)
    with (root / "gt_training.csv").open("a") as file:
        file.write("00099,Golgi\n0002,Golgi\n,Golgi\n")
    (root / "specimens.csv").write_text("Image ID,Specimen\n2,g2\n3,h1\n10,h2\n010,h3\n")
    text = error(sources.i3a(str(root)), tmp_path)
    assert "gt_training.csv row 3 (00001): more than one image has this ID" in text
    assert "gt_training.csv row 6 (00099): missing file" in text
    assert "gt_training.csv row 8 (): the image ID or the class is empty" in text
    assert "specimens.csv row 5 (010): specimen 'h3', but 'h2' above" in text
    assert "class 'Golgi' has a single specimen ('g2')" in text


def test_i3a_ids_that_differ_by_zeros_are_duplicates(tmp_path: Path) -> None:
    root = contest(tmp_path / "data")
    with (root / "gt_training.csv").open("a") as file:
        file.write("0002,Golgi\n")
    text = error(sources.i3a(str(root)), tmp_path)
    assert "gt_training.csv row 6 (0002): duplicate ID, gt_training.csv row 2 has it too" in text


def public_copy(root: Path) -> Path:
    for seed, place in enumerate(("tra/Golgi/1", "tra/NuMem/2", "val/Golgi/3", "tes/NuMem/4")):
        write_cell(root / f"{place}.png", seed)
    return root


def test_i3a_public_copy_by_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = public_copy(tmp_path / "data")
    cells = opened(sources.i3a(str(root)), tmp_path)
    assert "hold 2/1/1 cells here, 8701/2175/2720 in the public copy" in caplog.text
    assert cells.ids.tolist() == ["1", "2", "3", "4"]
    assert cells.classes == ("NuMem", "Golgi")
    assert cells.labels.tolist() == [1, 0, 1, 0]
    assert cells.pools.tolist() == ["train", "train", "val", "test"]


def test_i3a_public_copy_with_its_csv(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "data"
    public_copy(root / "dataset")
    text = "Image ID,Image class\n00001,Golgi\n00002,NuMem\n00003,Golgi\n00004,NuMem\n"
    (root / "gt_training.csv").write_text(text)
    cells = opened(sources.i3a(str(root)), tmp_path)
    assert "2/1/1" in caplog.text
    assert cells.ids.tolist() == ["00001", "00002", "00003", "00004"]
    assert cells.pools.tolist() == ["train", "train", "val", "test"]


def test_i3a_public_figures_do_not_warn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hep2.data.sources.PUBLIC_SPLIT", {"train": 2, "val": 1, "test": 1})
    sources.i3a(str(public_copy(tmp_path / "data")))
    assert not caplog.records


def test_i3a_neither_form(tmp_path: Path) -> None:
    with pytest.raises(HEp2Error, match=r"has neither gt_training.csv nor the folders tra, val"):
        sources.i3a(str(tmp_path))


@pytest.mark.parametrize("name", ["i3a", "snphep2", "folder", "manifest"])
def test_no_root_and_missing_root(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        HEp2Error, match=rf"data={name} needs the folder of the data set: add data\.root=<folder>"
    ):
        getattr(sources, name)(None)
    with pytest.raises(HEp2Error, match=r"data\.root=.*nowhere: no such folder"):
        getattr(sources, name)(str(tmp_path / "nowhere"))


def snphep2(root: Path) -> Path:
    rows = []
    for seed, (label, pool) in enumerate(
        (label, pool)
        for label in ("Homogeneous", "Fine speckled", "Coarse-Speckled")
        for pool in ("train", "test", "test")
    ):
        write_cell(root / f"{seed}.png", seed)
        rows.append(f"{seed}.png,{label},s{seed},{pool}\n")
    (root / "manifest.csv").write_text("image,label,specimen,pool\n" + "".join(rows))
    return root


def test_snphep2_orders_its_classes_and_states_both_figures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = opened(sources.snphep2(str(snphep2(tmp_path / "data"))), tmp_path)
    assert cells.classes == ("Homogeneous", "Coarse-Speckled", "Fine speckled")
    text = caplog.text
    assert "9 cells (published: 1884)" in text
    assert "9 specimens (published: 40)" in text
    assert "3 training cells (published: 905)" in text
    assert "6 test cells (published: 979)" in text


def test_snphep2_with_the_published_figures_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    figures = {"cells": 9, "specimens": 9, "training cells": 3, "test cells": 6}
    monkeypatch.setattr(sources, "SNPHEP2_COUNTS", figures)
    sources.snphep2(str(snphep2(tmp_path / "data")))
    assert not caplog.records


def test_published_figures() -> None:
    figures = sources.SNPHEP2_COUNTS
    assert figures == {
        "cells": 1884,
        "specimens": 40,
        "training cells": 905,
        "test cells": 979,
    }
    assert figures["training cells"] + figures["test cells"] == figures["cells"]


def test_folder(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for seed, name in enumerate(("b/s1/x.png", "b/s2/x.png", "a/t1/x.TIFF", "a/t2/y.jpg")):
        write_cell(root / name, seed)
    (root / "b" / "s1" / "notes.txt").write_text("no image")
    write_cell(root / "b" / "s1" / ".hidden.png", 9)
    cells = opened(sources.folder(str(root), name="mine"), tmp_path)
    assert cells.ids.tolist() == ["a/t1/x.TIFF", "a/t2/y.jpg", "b/s1/x.png", "b/s2/x.png"]
    assert cells.classes == ("a", "b")
    assert cells.labels.tolist() == [0, 0, 1, 1]
    assert cells.specimens.tolist() == ["t1", "t2", "s1", "s2"]
    assert cells.name == "mine"


def test_folder_of_another_depth(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for seed, name in enumerate(("b/s1/x.png", "b/s2/x.png", "b/x.png", "b/s1/deep/x.png")):
        write_cell(root / name, seed)
    text = error(sources.folder(str(root)), tmp_path)
    assert "b/x.png: not in <label>/<specimen>/" in text
    assert "b/s1/deep/x.png: not in <label>/<specimen>/" in text
    assert "2 problems" in text


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(HEp2Error, match=r"holds no image; it must hold <label>/<specimen>/<image>"):
        sources.folder(str(tmp_path))


def test_folder_follows_links_once(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for seed, name in enumerate(("a/s1/x.png", "a/s2/x.png")):
        write_cell(root / name, seed)
    (root / "a" / "s1" / "loop").symlink_to(root)
    write_cell(tmp_path / "elsewhere" / "z.png", 7)
    (root / "a" / "s3").symlink_to(tmp_path / "elsewhere")
    cells = opened(sources.folder(str(root)), tmp_path)
    assert cells.ids.tolist() == ["a/s1/x.png", "a/s2/x.png", "a/s3/z.png"]


def test_classes_alphabetical_unless_the_order_covers_all() -> None:
    order = ("homogeneous", "fine_speckled")
    assert ordered_classes({"Fine Speckled", "homogeneous"}, order) == (
        "homogeneous",
        "Fine Speckled",
    )
    assert ordered_classes({"homogeneous", "fine_speckled", "b"}, order) == (
        "b",
        "fine_speckled",
        "homogeneous",
    )


def test_order_of_rows_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    root = contest(tmp_path / "data")
    first = open_cells(sources.i3a(str(root)), tmp_path / "one", 8, "green")
    lines = (root / "gt_training.csv").read_text().splitlines()
    (root / "gt_training.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    walk = os.walk

    def shuffled(top: Any, followlinks: bool) -> Any:
        for folder, subfolders, names in walk(top, followlinks=followlinks):
            random.Random(1).shuffle(names)
            subfolders.reverse()
            yield folder, subfolders, names

    monkeypatch.setattr(os, "walk", shuffled)
    second = open_cells(sources.i3a(str(root)), tmp_path / "two", 8, "green")
    assert second.key == first.key
    for name in ("images.npy", "cells.csv"):
        one, two = (next((tmp_path / cache).glob(f"i3a-*/{name}")) for cache in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("name", ["i3a", "snphep2", "folder", "manifest"])
def test_yaml_without_root_says_what_to_add(name: str) -> None:
    cfg = OmegaConf.create({"data": OmegaConf.load(CONF / f"{name}.yaml")})
    assert cfg.data.image_size == 64
    assert cfg.data.channel == "green"
    with pytest.raises(Exception, match=rf"data={name} needs the folder"):
        instantiate(cfg.data.source, _convert_="all")


def test_yaml_with_root_and_name(tmp_path: Path) -> None:
    cfg = OmegaConf.create({"data": OmegaConf.load(CONF / "i3a.yaml")})
    cfg.data.root, cfg.data.name = str(contest(tmp_path / "data")), "mine"
    cells = opened(instantiate(cfg.data.source, _convert_="all"), tmp_path)
    assert (cells.name, len(cells)) == ("mine", 4)


@pytest.fixture
def fake_simulator(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    calls = []

    def photographs(cells: int, specimens: int, size: int, seed: int) -> Iterator[NDArray[Any]]:
        calls.append({"cells": cells, "specimens": specimens, "size": size, "seed": seed})
        made = np.random.default_rng(seed).integers(0, 256, (3, size, size)).astype(np.uint8)
        yield from (made[:1], made[1:])

    def annotations(*asked: int) -> tuple[NDArray[np.str_], ...]:
        return (
            np.array(["a", "b", "c"]),
            np.array(["homogeneous", "nucleolar", "centromere"]),
            np.array(["s1", "s2", "s3"]),
            np.array(["train", "test", "test"]),
        )

    module = ModuleType("hep2.data.simulator.cells")
    module.photographs = photographs  # type: ignore[attr-defined]
    module.annotations = annotations  # type: ignore[attr-defined]
    module.VERSION = 1  # type: ignore[attr-defined]
    monkeypatch.setattr(sources, "simulator", module)
    return calls


def test_synthetic_is_simulated_once(tmp_path: Path, fake_simulator: list[dict[str, int]]) -> None:
    cfg = OmegaConf.create({"data": OmegaConf.load(CONF / "synthetic.yaml")})
    source = instantiate(cfg.data.source, _convert_="all")
    cells = [open_cells(source, tmp_path, size, "green") for size in (16, 16)]
    assert fake_simulator == [{"cells": 1884, "specimens": 40, "size": 16, "seed": 0}]
    assert cells[0].key == cells[1].key
    assert cells[1].ids.tolist() == ["a", "b", "c"]
    assert cells[1].labels.tolist() == [0, 3, 4]
    assert cells[1].classes == sources.PAPER_CLASSES
    assert cells[1].pools.tolist() == ["train", "test", "test"]
    assert cells[1].synthetic
    made = np.random.default_rng(0).integers(0, 256, (3, 16, 16)).astype(np.uint8)
    assert np.array_equal(cells[1].images[:, 0], made)
    open_cells(sources.synthetic(seed=1), tmp_path, 16, "green")
    assert len(fake_simulator) == 2
    sources.simulator.VERSION = 2  # type: ignore[misc]
    open_cells(source, tmp_path, 16, "green")
    assert len(fake_simulator) == 3


def test_the_simulator_as_a_source(tmp_path: Path) -> None:
    synthetic = pytest.importorskip("hep2.data.simulator.cells")
    assert synthetic.CLASSES == sources.PAPER_CLASSES
    cells = open_cells(sources.synthetic(cells=60, specimens=10), tmp_path, 16, "green")
    made = synthetic.simulate(60, 10, image_size=16, seed=0)
    order = np.argsort(made.ids)
    assert np.array_equal(cells.images[:, 0], made.images[order])
    assert cells.ids.tolist() == np.asarray(made.ids)[order].tolist()
    names = np.array(cells.classes)[cells.labels]
    assert names.tolist() == np.asarray(made.labels)[order].tolist()
    assert cells.specimens.tolist() == np.asarray(made.specimens)[order].tolist()
    assert cells.pools.tolist() == np.asarray(made.pools)[order].tolist()


@pytest.mark.skipif(not REAL.is_dir(), reason="the real cells, ../shared/i3a, are absent")
def test_real_cells(tmp_path: Path) -> None:
    source = sources.i3a(str(REAL))
    assert source.classes == (
        "Homogeneous",
        "Speckled",
        "Nucleolar",
        "Centromere",
        "NuMem",
        "Golgi",
    )
    assert len(source.rows) == 10644
    assert source.problems == ()
    assert all(row.specimen for row in source.rows)
