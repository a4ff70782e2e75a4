"""Anybody's table of a split: what is read of it, and what is refused in words that help."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hep2.data.split_table import Columns, SplitTable, read_split_table
from hep2.errors import HEp2Error

Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Writes a table of eight different images; {} in a row is the number of its image."""

    def write(header: str, row: Callable[[int], str], folder: str = "cells") -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        for number in range(8):
            pixels = np.random.default_rng(number).integers(0, 256, (20, 20), np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
        table = tmp_path / "split.csv"
        table.write_text("\n".join([header, *map(row, range(8))]) + "\n")
        return table

    return write


def sides(table: SplitTable) -> list[tuple[str, list[int], list[int]]]:
    return [(name, learning.tolist(), test.tolist()) for name, learning, test in table.held]


def error(path: Path, columns: Columns = Columns()) -> str:  # noqa: B008
    with pytest.raises(HEp2Error) as caught:
        read_split_table(path, columns)
    return str(caught.value)


def test_a_table_under_its_default_names(written: Written) -> None:
    words = ["train", "Training", "val", "TEST", "dev", "tes", "tra", "holdout"]
    path = written("image,label,specimen,split",
                   lambda n: f"cells/{n}.png,{'ab'[n % 2]},s{n // 2},{words[n]}")  # fmt: skip
    table = read_split_table(path, Columns())
    assert sides(table) == [("test", [0, 1, 2, 4, 6], [3, 5, 7])]
    assert table.notes == ()
    cells = table.cells
    assert cells.ids.tolist() == [f"cells/{n}.png" for n in range(8)]
    assert cells.specimens.tolist() == [f"s{n // 2}" for n in range(8)]
    assert [cells.classes[label] for label in cells.labels] == list("abababab")
    assert cells.images.shape == (8, 1, 64, 64)


def test_names_of_columns_and_the_folder_of_images_are_asked_for(written: Written) -> None:
    path = written("no,path,class,slide,set", lambda n: f"{n},{n}.png,a,x{n},{n % 2 or 'test'}",
                   "elsewhere")  # fmt: skip
    path.write_text(path.read_text().replace(",1\n", ",train\n"))
    columns = Columns("path", "class", "slide", "set")
    table = read_split_table(path, columns, path.parent / "elsewhere")
    assert sides(table) == [("test", [1, 3, 5, 7], [0, 2, 4, 6])]
    assert "none of its 8 images is there" in error(path, columns)
    assert "root=<folder> says where they lie" in error(path, columns)


def test_every_fold_is_held_out_in_turn(written: Written) -> None:
    path = written("image,label,fold", lambda n: f"cells/{n}.png,a,{['0', '1.0', '10'][n % 3]}")
    table = read_split_table(path, Columns())
    assert sides(table) == [
        ("fold 0", [1, 2, 4, 5, 7], [0, 3, 6]),
        ("fold 1", [0, 2, 3, 5, 6], [1, 4, 7]),
        ("fold 10", [0, 1, 3, 4, 6, 7], [2, 5]),
    ]
    assert table.notes == ("specimens are unknown: columns.specimen=<column> names their column",)


def test_without_a_test_the_validation_is_taken_and_that_is_said(written: Written) -> None:
    path = written("image,label,split", lambda n: f"cells/{n}.png,a,{['train', 'val'][n == 7]}")
    table = read_split_table(path, Columns())
    assert sides(table) == [("val", [0, 1, 2, 3, 4, 5, 6], [7])]
    assert "no cell is in test: val is taken for the test" in table.notes


def test_an_image_on_both_sides_is_two_cells_and_16_bits_keep_their_range(written: Written) -> None:
    path = written(
        "image,label,split", lambda n: f"cells/{n % 4}.png,a,{['train', 'test'][n // 4]}"
    )
    wide = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(wide).save(path.parent / "cells" / "0.png")
    table = read_split_table(path, Columns())
    assert table.cells.ids[:2].tolist() == ["cells/0.png (row 2)", "cells/0.png (row 6)"]
    for cell in (0, 1):
        assert np.array_equal(table.cells.images[cell, 0], wide)
    assert table.cells.images[2:].max() > 250 * 257


@pytest.mark.parametrize(
    ("header", "row", "columns", "message"),
    [
        ("image,class,split", "cells/{}.png,a,train", Columns(),
         "has no column label: say columns.label=<column>; its columns are image, class, split"),
        ("image,label,split", "cells/{}.png,a,train", Columns(specimen="slide"),
         "has no column slide: say columns.specimen=<column>; its columns are image, label, split"),
        ("image,label,split", "cells/{}.png,a,train", Columns(fold="cv"),
         "has no column cv: say columns.fold=<column>"),
        ("image,label", "cells/{}.png,a", Columns(),
         "not tell the sides: say columns.split=<column> (train, val or test) or columns.fold"),
        ("image,label,split,fold", "cells/{}.png,a,train,1", Columns(),
         "both a column split and a column fold: say which one is not to be read with columns."),
        ("image,label,split", "cells/{}.png,a,train", Columns(specimen="label"),
         "the column label is named for two things"),
        ("image,label,split", "cells/{}.png,a,train", Columns(label=None),
         "say columns.label=<column>"),
        ("image,label,split", "cells/{}.png,a,train", Columns(),
         "all cells are on one side (train)"),
        ("image,label,fold", "cells/{}.png,a,1", Columns(),
         "1 different folds; an audit needs from 2"),
        ("image,label,split", "cells/{}.png,a,apart", Columns(),
         "row 2 and 7 more: split is 'apart', not train, val or test"),
        ("image,label,fold", "cells/{}.png,a,-1", Columns(),
         "row 2 and 7 more: fold is '-1', not a whole number from 0"),
        ("image,label,split", "cells/{}.png,a,", Columns(), "split is '', not train, val or test"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_with_the_remedy(
    written: Written, header: str, row: str, columns: Columns, message: str
) -> None:
    said = error(written(header, row.format), columns)
    assert message in said
    assert "split.csv" in said and said.count("\n") <= 1


def test_a_column_that_was_named_is_the_one_that_is_meant(written: Written) -> None:
    path = written("image,label,set,fold",
                   lambda n: f"cells/{n}.png,a,{['train', 'test'][n % 2]},{n // 4}")  # fmt: skip
    by_set = read_split_table(path, Columns(split="set"))
    assert [name for name, *_ in by_set.held] == ["test"] and by_set.columns.fold is None
    by_fold = read_split_table(path, Columns())
    assert [name for name, *_ in by_fold.held] == ["fold 0", "fold 1"]


def test_all_bad_rows_are_named_at_once(written: Written) -> None:
    rows = {1: ",a,s,train", 2: "cells/2.png,nan,s,train", 3: "cells/3.png,a,#N/A,train",
            4: "cells/4.png,a,s,tset"}  # fmt: skip

    def row(n: int) -> str:
        return rows.get(n, f"cells/{n}.png,a,s{n},{['train', 'test'][n == 7]}")

    path = written("image,label,specimen,split", row)
    said = error(path)
    for line in (
        "split.csv row 3 (): no image",
        "split.csv row 4 (cells/2.png): no label",
        "split.csv row 5 (cells/3.png): no specimen",
        "split.csv row 6: split is 'tset', not train, val or test",
    ):
        assert f"\n  {line}" in said
    assert said.count("\n") == 4


def test_bad_images_are_named_with_their_rows(written: Written) -> None:
    path = written("image,label,split", lambda n: f"cells/{n}.png,a,{['train', 'test'][n % 2]}")
    (path.parent / "cells" / "3.png").write_bytes(b"no image")
    (path.parent / "cells" / "5.png").unlink()
    said = error(path)
    assert "split.csv row 5 (cells/3.png): " in said
    assert "split.csv row 7 (cells/5.png): missing file" in said


def test_one_specimen_under_two_spellings_is_refused(written: Written) -> None:
    """Otherwise its cells on both sides would be no leak."""

    def row(n: int) -> str:
        return f"cells/{n}.png,a,{['s1', 'S01'][n % 2]},{['train', 'test'][n % 2]}"

    path = written("image,label,specimen,split", row)
    said = error(path)
    assert "one thing under two spellings" in said and "'s1'" in said and "'S01'" in said
