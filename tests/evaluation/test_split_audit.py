"""The audit of anybody's split: leaks that were planted are found, an honest split is called so."""

import csv
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import InProcess
from numpy.typing import NDArray
from PIL import Image

from hep2.data.cells import Cells
from hep2.data.split_table import Columns, Held
from hep2.data.views import oriented
from hep2.evaluation.audit_page import sentence, tables, write_audit
from hep2.evaluation.nearest import LEVELS, histograms, nearest, worth_of
from hep2.evaluation.split_audit import SplitAudit, audit_table
from hep2.programs import evaluate

SPECIMENS, CELLS_EACH = 12, 10
Pixels = NDArray[np.uint8]


def images() -> Pixels:
    """Smooth random images, (120, 64, 64); ten make a specimen, with a brightness of its own."""
    rng = np.random.default_rng(0)
    waves = np.cos(np.pi * np.arange(7)[:, None] * np.arange(64) / 64)
    count = SPECIMENS * CELLS_EACH
    made = np.einsum("nkl,kx,ly->nxy", rng.normal(size=(count, 7, 7)), waves, waves)
    made -= made.min(axis=(1, 2), keepdims=True)
    made /= made.max(axis=(1, 2), keepdims=True)
    bright = 60 + 15 * rng.permutation(SPECIMENS).repeat(CELLS_EACH)
    return (made * bright[:, None, None]).astype(np.uint8)


def honest(cell: int) -> str:
    """Whole specimens: every fourth is tested."""
    return "test" if cell // CELLS_EACH % 4 == 3 else "train"


def write_table(
    root: Path,
    pixels: Pixels,
    side: Callable[[int], object] = honest,
    specimen: Callable[[int], str] = lambda cell: f"s{cell // CELLS_EACH}",
    header: str = "image,label,specimen,split",
) -> Path:
    root.mkdir(exist_ok=True)
    rows = []
    for cell, image in enumerate(pixels):
        Image.fromarray(image).save(root / f"c{cell:03d}.png")
        label = "ab"[cell // CELLS_EACH % 2]
        rows.append((f"c{cell:03d}.png", label, specimen(cell), str(side(cell))))
    with (root / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return root / "split.csv"


def audit_of(path: Path) -> SplitAudit:
    return audit_table(path, Columns())


def test_an_honest_split_is_clean(tmp_path: Path) -> None:
    audit = audit_of(write_table(tmp_path, images()))
    assert not audit.leaks
    assert (audit.tested, audit.shared, audit.total("identical"), audit.total("near")) == (
        30,
        0,
        0,
        0,
    )
    assert sentence(audit) == (
        "split.csv is clean: no specimen, no identical cell and no more look-alikes than by chance "
        "on both sides"
    )


def test_one_specimen_on_both_sides_is_a_leak(tmp_path: Path) -> None:
    side = lambda cell: "test" if cell in (4, 5) else honest(cell)  # noqa: E731
    audit = audit_of(write_table(tmp_path, images(), side))
    assert audit.leaks and audit.findings[0].shared is not None
    assert audit.findings[0].shared.tolist() == ["s0"]
    assert sentence(audit).startswith("split.csv LEAKS: 1 specimen on both sides (2 of 32 test cel")


def test_one_identical_cell_is_a_leak_whatever_its_specimen_is_called(tmp_path: Path) -> None:
    pixels = images()
    pixels[35] = pixels[2]
    audit = audit_of(write_table(tmp_path, pixels))
    assert audit.leaks and audit.shared == 0 and audit.pairs == [(35, 2, "identical")]
    assert "LEAKS: 1 test cell identical to a cell learned from" in sentence(audit)
    folder = tmp_path / "report"
    write_audit(audit, folder)
    with (folder / "pairs.csv").open(newline="") as file:
        assert list(csv.reader(file))[1:] == [["c035.png", "s3", "c002.png", "s0", "identical"]]


@pytest.mark.parametrize(("copies", "leaks"), [(0, False), (1, False), (6, True)])
@pytest.mark.parametrize("known", [True, False])
def test_turned_copies_are_a_leak_where_chance_does_not_give_so_many(
    tmp_path: Path, copies: int, leaks: bool, known: bool
) -> None:
    pixels = images()
    for copy in range(copies):
        pixels[70 + copy] = oriented(pixels[copy], 1 + copy) * 0.9
    specimen = (lambda cell: f"s{cell // CELLS_EACH}") if known else lambda cell: ""
    audit = audit_of(write_table(tmp_path, pixels, specimen=specimen))
    assert {pair[:2] for pair in audit.pairs} == {(70 + copy, copy) for copy in range(copies)}
    assert audit.leaks is audit.beyond_chance is leaks
    assert audit.shared == (0 if known else None)


def test_cells_that_are_alike_by_nature_are_no_copies(tmp_path: Path) -> None:
    """Discs, all much the same: as alike within the training side as between the sides."""
    rng, (y, x) = np.random.default_rng(1), np.mgrid[:64, :64] / 64 - 0.5
    discs = [
        120 / (1 + np.exp(40 * (np.hypot(x * wide, y) - 0.33))) + rng.normal(10, 3, x.shape)
        for wide in rng.uniform(0.9, 1.1, SPECIMENS * CELLS_EACH)
    ]
    pixels = np.clip(discs, 0, 255).astype(np.uint8)
    audit = audit_of(write_table(tmp_path, pixels))
    assert not audit.leaks and audit.findings[0].threshold > 0.985
    pixels[70:77] = pixels[:7, ::-1]
    assert audit_of(write_table(tmp_path, pixels)).beyond_chance


def test_folds_are_counted_together(tmp_path: Path) -> None:
    pixels = images()
    pixels[45] = pixels[2]  # fold 1 and fold 0
    path = write_table(tmp_path, pixels, lambda cell: cell % 2 if cell < 10 else cell // 10 % 3,
                       header="image,label,specimen,fold")  # fmt: skip
    audit = audit_of(path)
    found = {row[0]: (row[1], *row[3:]) for row in tables(audit)[0].rows}
    assert found == {
        "fold 0": ("35", "1", "5", "1", "0"),
        "fold 1": ("45", "1", "5", "1", "0"),
        "fold 2": ("40", "0", "0", "0", "0"),
        "all": ("120", "1", "10", "2", "0"),
    }
    assert audit.pairs == [(2, 45, "identical"), (45, 2, "identical")]


def made_cells(looks: NDArray[np.uint8], labels: list[int], specimens: list[str]) -> Cells:
    count = len(looks)
    ids, empty = np.array([f"c{n:03d}" for n in range(count)]), np.full(count, "")
    return Cells(looks, ids, np.array(labels), np.array(specimens), empty, ("a", "b"), "x", "")


def test_histograms_are_shares_of_grey_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hep2.evaluation.nearest.CELLS", 2)
    looks = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    looks[4, 0, 0, 0] = 255
    found = histograms(made_cells(looks, [0] * 5, [""] * 5))
    for image, row in zip(looks, found, strict=True):
        shares = np.bincount((image.ravel().astype(int) * LEVELS) // 256, minlength=LEVELS) / 64
        assert np.allclose(row, np.sqrt(shares), atol=1e-6)


def test_the_nearest_is_that_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hep2.evaluation.nearest._PRODUCTS", 25)  # several blocks
    looks = np.random.default_rng(0).random((20, 6)).astype(np.float32)
    learning, test = np.arange(0, 20, 2), np.arange(1, 20, 2)
    expected = learning[(looks[test] @ looks[learning].T).argmax(axis=1)]
    assert np.array_equal(nearest(looks, learning, test), expected)


def test_the_worth_is_that_of_knowing_the_specimen() -> None:
    """Six specimens, each of one grey and one pattern: known again perfectly, new ones never."""
    greys = np.repeat([10, 20, 90, 100, 170, 180], 4)
    labels = np.repeat([0, 1, 0, 1, 0, 1], 4).tolist()
    looks = np.broadcast_to(greys[:, None, None, None], (24, 1, 8, 8)).astype(np.uint8)
    rng = np.random.default_rng(0)
    looks = looks + rng.integers(0, 3, looks.shape, dtype=np.uint8)
    cells = made_cells(looks, labels, np.repeat(list("uvwxyz"), 4).tolist())
    test = np.arange(0, 24, 4)
    worth = worth_of(cells, [Held("test", np.setdiff1d(np.arange(24), test), test)])
    assert worth.given == (1.0, 1.0)
    assert worth.honest is not None and worth.difference is not None
    assert worth.folds == 4
    assert worth.difference.estimate == pytest.approx(1 - worth.honest.mca)
    assert worth.honest.mca <= 0.5
    unknown = made_cells(looks, labels, [""] * 24)
    worth = worth_of(unknown, [Held("test", np.setdiff1d(np.arange(24), test), test)])
    assert worth == ((1.0, 1.0), None, 0, None)


def test_hostile_names_are_text_on_the_page_and_no_formula(tmp_path: Path) -> None:
    hostile, pixels = "=<script>alert(1)</script>", images()
    pixels[35] = pixels[2]
    path = write_table(tmp_path, pixels, specimen=lambda cell: f"{hostile}{cell // CELLS_EACH}x")
    audit = audit_of(path)
    page, pairs = (file.read_text() for file in write_audit(audit, tmp_path / "report"))
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page) and "default-src 'none'" in page
    assert page.startswith("<!DOCTYPE html>") and page.count("<h1>") == 1
    assert page.count("<img ") == 2 and page.count("alt=") == 2
    assert f"'{hostile}3x" in pairs


def test_the_exit_code_tells_whether_it_leaks(tmp_path: Path, in_process: InProcess) -> None:
    command = partial(in_process, evaluate.main, "evaluate.py", "task=audit")
    path = write_table(tmp_path / "x", images(), header="image,label,slide,set")
    words = (f"images={path}", "columns.split=set", "columns.specimen=slide")
    code, out, err = command(*words)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("split.csv is clean: ")
    assert (tmp_path / "reports" / "audit-split" / "audit.html").is_file()
    path.write_text(path.read_text().replace("s3,test", "s0,test"))
    code, out, err = command(*words, f"out={tmp_path}/there")
    assert (code, err) == (1, "")
    assert out.splitlines()[-1].startswith("split.csv LEAKS: 1 specimen on both sides (10 of 30")
    assert (tmp_path / "there" / "pairs.csv").is_file()
    code, out, err = command(f"images={path}")
    assert code == 1 and err.startswith("error: ") and "say columns.split=<column>" in err
    code, out, err = command()
    assert code == 1 and err.startswith("error: which split? images=<CSV")
    code, out, err = command("columns.slide=x")
    assert code == 2 and "there is no setting columns.slide" in err
