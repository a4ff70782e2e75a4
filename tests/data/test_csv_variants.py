"""CSVs as spreadsheets, scripts and people write them: read where the meaning is certain."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from conftest import composed
from helpers.small_sets import (
    all_specimens,
    described,
    opened,
    refusal,
    specimens_of,
    write_folders,
    write_table,
)
from hydra.utils import instantiate

from hep2.data import sources
from hep2.prediction.cells import find_images

Cell = dict[str, str]
HEADER = "image,label,specimen"


def row(cell: Cell) -> str:
    return f"cells/{cell['i']}.png,{cell['label']},{cell['specimen']}"


def separated(by: str) -> tuple[str, Callable[[Cell], str]]:
    return HEADER.replace(",", by), lambda cell: row(cell).replace(",", by)


READ = {
    "semicolons": (*separated(";"), "\n", "utf-8"),
    "semicolons, mark, Windows": (*separated(";"), "\r\n", "utf-8-sig"),
    "tabs": (*separated("\t"), "\n", "utf-8"),
    "bars": (*separated("|"), "\n", "utf-8"),
    "Excel's Unicode text": (*separated("\t"), "\r\n", "utf-16"),
    "UTF-16 without its mark": (HEADER, row, "\r\n", "utf-16-le"),
    "UTF-16, the other way": (HEADER, row, "\n", "utf-16-be"),
    "Excel's own word": (f"sep=;\n{separated(';')[0]}", separated(";")[1], "\n", "utf-8"),
    "old Macintosh": (HEADER, row, "\r", "utf-8"),
    "an index": (f",{HEADER}", lambda cell: f"7,{row(cell)}", "\n", "utf-8"),
    "blanks behind commas": (*separated(", "), "\n", "utf-8"),
    "blanks and quotes": (
        '"image", "label", "specimen"',
        lambda c: f'"cells/{c["i"]}.png", "{c["label"]}", "{c["specimen"]}"',
        "\n",
        "utf-8",
    ),
    "empty columns behind": (f"{HEADER},,", lambda cell: f"{row(cell)},,", "\n", "utf-8"),
    "commas behind rows": (HEADER, lambda cell: f"{row(cell)},,", "\n", "utf-8"),
    "commas behind the header": (f"{HEADER},", row, "\n", "utf-8"),
    "capitals": ("Image , LABEL,Specimen", row, "\n", "utf-8"),
    "Windows paths": (HEADER, lambda c: row(c).replace("/", "\\"), "\n", "utf-8"),
    "paths of another disk": (HEADER, lambda c: f"C:\\x\\{row(c)}", "\r\n", "utf-8"),
    "paths of another home": (HEADER, lambda c: f"/home/x/set/{row(c)}", "\n", "utf-8"),
    "an address": (HEADER, lambda c: f"file:///x/{row(c)}", "\n", "utf-8"),
    "a system without capitals": (
        HEADER,
        lambda c: row(c).replace("cells", "Cells").replace(".png", ".PNG"),
        "\n",
        "utf-8",
    ),
}
FOREIGN = ("Windows paths", "paths of another disk", "paths of another home", "an address",
           "a system without capitals")  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "data", "cells/{i}.png")


@pytest.mark.parametrize("name", READ)
def test_read_in_training_and_in_prediction(name: str, root: Path) -> None:
    header, line, end, encoding = READ[name]
    write_table(root, "manifest.csv", header, line, end, encoding)
    with pytest.warns(UserWarning) if name in FOREIGN else nullcontext() as caught:
        cells = opened(sources.manifest(str(root)), root.parent)
        named = find_images(str(root / "manifest.csv"))
    if caught:
        assert len(caught) == 2
        assert "12 paths of another system, e.g." in str(caught[0].message)
    assert cells.ids.tolist() == [f"cells/{cell['i']}.png" for cell in described()]
    assert specimens_of(cells) == all_specimens()
    assert [cell.id for cell in named] == cells.ids.tolist()
    assert [cell.specimen for cell in named] == cells.specimens.tolist()


def test_columns_in_other_words(root: Path) -> None:
    write_table(root, "manifest.csv", "filename,class,slide", row)
    text = refusal(lambda: sources.manifest(str(root)), root.parent)
    setting = "data.source.columns={image: filename, label: class, specimen: slide}"
    assert f"add '{setting}'" in text
    cfg = composed("data=manifest", f"data.root={root}", setting)
    cells = opened(instantiate(cfg.data.source, _convert_="all"), root.parent)
    assert specimens_of(cells) == all_specimens()


def test_a_setting_goes_before_a_column_of_our_own_name(root: Path) -> None:
    write_table(root, "manifest.csv", "image,label,specimen,pattern",
                lambda c: f"cells/{c['i']}.png,x,{c['specimen']},{c['label']}")  # fmt: skip
    source = sources.manifest(str(root), columns={"label": "pattern"})
    assert source.classes == ("homogeneous", "nucleolar", "speckled")
    text = refusal(lambda: sources.manifest(str(root), columns={"label": "y"}), root.parent)
    assert "no column y, which data.source.columns names" in text
    text = refusal(lambda: sources.manifest(str(root), columns={"class": "y"}), root.parent)
    assert "data.source.columns names class; columns are image, label, specimen, pool" in text


def test_a_column_of_pools_in_another_word(root: Path) -> None:
    write_table(root, "manifest.csv", f"{HEADER},split", lambda c: f"{row(c)},{c['pool']}")
    with pytest.warns(UserWarning, match=r"the column split is not read.*\{pool: split\}"):
        assert {one.pool for one in sources.manifest(str(root)).rows} == {""}
    source = sources.manifest(str(root), columns={"pool": "split"})
    assert {one.pool for one in source.rows} == {"train", "test"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"{HEADER}\ncells/00001.png,homog\u00e8ne,s\n".encode("latin-1"),
         "row 2: not UTF-8 text; save it as CSV UTF-8, or, if it was written on Windows, iconv"),
        (f"{HEADER}\rcells/00001.png,homog\u00e8ne,s\r".encode("cp1252"), "row 2: not UTF-8"),
        (b"PK\x03\x04...", "is an Excel workbook or a ZIP archive; save the sheet as CSV"),
        (b"\xd0\xcf\x11\xe0...", "is an old Excel workbook"),
        (b"<!doctype html><title>", "is a web page; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"cells/00001.png,a,s1\n", "no column image, label, specimen"),
    ],
)  # fmt: skip
def test_refused_in_one_sentence(content: bytes, expected: str, root: Path) -> None:
    (root / "manifest.csv").write_bytes(content)
    text = refusal(lambda: sources.manifest(str(root)), root.parent)
    assert expected in text
    assert "\n" not in text


def test_many_missing_files_are_said_once(root: Path) -> None:
    write_table(root, "manifest.csv", HEADER, lambda c: "other\\" + row(c).replace("cells/", "z"))
    text = refusal(lambda: sources.manifest(str(root)), root.parent)
    assert text.count("missing file") == 1
    assert "missing file: 12 rows, e.g. manifest.csv row 2 (other\\z00001.png)" in text


IDS = {
    "numbers": lambda c: str(int(c["i"])),
    "fractions": lambda c: f"{float(c['i'])}",
    "names of files": lambda c: f"{c['i']}.png",
    "paths": lambda c: f"images/{c['i']}.png",
    "paths of Windows": lambda c: f"D:\\set\\images\\{c['i']}.PNG",
    "more zeros": lambda c: f"00{c['i']}",
}


@pytest.mark.parametrize("labels", IDS)
@pytest.mark.parametrize("specimens", IDS)
def test_ids_that_differ_in_spelling_meet(labels: str, specimens: str, root: Path) -> None:
    write_table(root, "gt_training.csv", "Image ID,Image class",
                lambda c: f"{IDS[labels](c)},{c['label']}")  # fmt: skip
    write_table(root, "specimens.csv", "image_id;specimen",
                lambda c: f"{IDS[specimens](c)};{c['specimen']}")  # fmt: skip
    source = sources.i3a(str(root))
    assert {one.id: one.specimen for one in source.rows} == {
        IDS[labels](cell): cell["specimen"] for cell in described()
    }
    assert not source.problems


def contest(root: Path, labels: Callable[[Cell], str], specimens: Callable[[Cell], str]) -> str:
    write_table(root, "gt_training.csv", "Image ID,Image class",
                lambda c: f"{labels(c)},{c['label']}")  # fmt: skip
    write_table(root, "specimens.csv", "Image ID,Specimen",
                lambda c: f"{specimens(c)},{c['specimen']}")  # fmt: skip
    return refusal(lambda: sources.i3a(str(root)), root.parent)


def test_ids_of_another_numbering(root: Path) -> None:
    text = contest(root, IDS["numbers"], lambda c: f"img_{int(c['i'])}")
    assert "specimens.csv: none of its 12 IDs is in gt_training.csv, e.g. img_1 here and 1" in text
    assert "\n" not in text


def test_ids_of_no_image(root: Path) -> None:
    text = contest(root, lambda c: f"cell{c['i']}", lambda c: f"cell{c['i']}")
    assert text.startswith("none of the 12 IDs of ")
    assert "is an image's name, e.g. cell00001 there and 00001.png here" in text
    assert "\n" not in text


def test_ids_of_some_cells_only(root: Path) -> None:
    text = contest(root, IDS["numbers"], lambda c: f"{'x' if c['pool'] == 'test' else ''}{c['i']}")
    assert ("specimens.csv names the specimens of 6 of the 12 cells of gt_training.csv, not of 6,"
            " e.g. 2; 6 of its IDs are not there, e.g. x00002") in text  # fmt: skip


@pytest.mark.parametrize("name", ["Specimens.csv", "specimen.csv", "SPECIMENS.CSV"])
def test_a_table_under_another_spelling_is_not_passed_over(name: str, root: Path) -> None:
    write_table(root, "GT_Training.csv", "Image ID,Image class", lambda c: f"{c['i']},{c['label']}")
    write_table(root, name, "Image ID,Specimen", lambda c: f"{c['i']},{c['specimen']}")
    assert specimens_of(opened(sources.i3a(str(root)), root.parent)) == all_specimens()
    (root / "specimens.xlsx").touch()
    text = refusal(lambda: sources.i3a(str(root)), root.parent)
    assert "specimens.xlsx" in text and "save the one that counts as specimens.csv" in text


def test_a_table_of_specimens_that_names_none(root: Path) -> None:
    write_table(root, "gt_training.csv", "Image ID,Image class", lambda c: f"{c['i']},{c['label']}")
    write_table(root, "specimens.csv", "Image ID,Specimen", lambda c: f"{c['i']},#N/A")
    text = refusal(lambda: sources.i3a(str(root)), root.parent)
    assert "specimens.csv names no specimen: all 12 are empty or say that there is none" in text


def test_a_manifest_of_another_name(root: Path) -> None:
    write_table(root, "cells.csv", HEADER, row)
    text = refusal(lambda: sources.manifest(str(root)), root.parent)
    assert "no such file, but there is cells.csv: add data.source.manifest=cells.csv" in text
    assert len(sources.manifest(str(root), manifest="cells.csv").rows) == 12


def test_rows_that_are_all_bad(root: Path) -> None:
    (root / "gt_training.csv").write_text("Image ID,Image class\n1\n2\n")
    text = refusal(lambda: sources.i3a(str(root)), root.parent)
    assert "gt_training.csv row 2: 1 fields, the header has 2" in text
