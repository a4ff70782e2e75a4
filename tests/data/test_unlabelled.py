"""Cells without labels that share a specimen with the test cells stay away from encoders."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hep2.data.cells import Cells
from hep2.data.fold import Fold, apart
from hep2.data.sources import unlabelled
from hep2.data.store import open_cells
from hep2.errors import HEp2Error


@pytest.fixture
def listed(tmp_path: Path):
    """Cells of a CSV, as `data.unlabelled` reads it."""

    def read(*rows: str) -> Cells:
        for number in range(len(rows) - 1):
            Image.new("L", (9, 9), 10 * number).save(tmp_path / f"{number}.png")
        file = tmp_path / "more.csv"
        file.write_text("\n".join([f"image,{rows[0]}", *(
            f"{number}.png,{row}" for number, row in enumerate(rows[1:]))]))  # fmt: skip
        return open_cells(unlabelled(str(file)), tmp_path / "cache", 64, "green", None, None)

    return read


def data_set(fold: Fold, *specimens: str, sources: tuple[str, ...] = ()) -> Cells:
    """The first cells of a data set, with other names."""
    count = len(specimens)
    named = {name: getattr(fold.cells, name)[:count] for name in
             ("images", "ids", "labels", "pools", "intensities")}  # fmt: skip
    names = np.array(sources or [""] * count)
    return replace(fold.cells, **named, specimens=np.array(specimens), sources=names)


@pytest.mark.parametrize(
    ("specimens", "sources", "rows", "kept"),
    [
        (["S07", "S08"], (), ["specimen", "S07", "s-7", "S08", "S9", ""], [2, 3, 4]),
        # The specimens of a data set with sources carry them; those of the CSV do not, or do.
        (["Turin/S07", "Pisa/S08"], ("Turin", "Pisa"), ["specimen", "S07", "S08", "s7"], [1]),
        (["Turin/S07", "Pisa/S07"], ("Turin", "Pisa"),
         ["specimen,source", "S07,Turin", "S07,Pisa", "S07,turin", "S1,Turin"], [1, 3]),
        (["S07", "S08"], (), ["specimen,source", "S07,Turin", "S8,Turin"], [1]),
        (["a/1", "b/1"], (), ["specimen", "b/1", "a/1", "1"], [0, 2]),
        (["", "S08"], (), ["specimen", "nan", "S8"], [0, 1]),
    ],
)  # fmt: skip
def test_cells_of_the_test_specimen_are_left_out(
    specimens: list[str], sources: tuple[str, ...], rows: list[str], kept: list[int],
    listed, fold: Fold,
) -> None:  # fmt: skip
    cells = data_set(fold, *specimens, sources=sources)
    left = apart(listed(*rows), cells, np.array([0]), "specimen")
    assert left.ids.tolist() == [f"{number}.png" for number in kept]


def test_cells_of_the_test_source_are_left_out_where_it_is_held_out(listed, fold: Fold) -> None:
    cells = data_set(fold, "Turin/1", "Pisa/1", sources=("Turin", "Pisa"))
    more = listed("specimen,source", "5,turin", "5,Pisa", ",Turin")
    assert apart(more, cells, np.array([0]), "source").ids.tolist() == ["1.png"]
    assert len(apart(more, cells, np.array([0]), "specimen").ids) == 3
    with pytest.raises(HEp2Error, match=r"1 of the cells are of no source; .* add the column"):
        apart(listed("specimen,source", "5,Turin", "6,"), cells, np.array([0]), "source")
