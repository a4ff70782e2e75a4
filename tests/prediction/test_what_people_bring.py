"""What is brought to a prediction is read as in training, or refused in one sentence."""

import logging
from pathlib import Path

import numpy as np
import pytest
from helpers.small_sets import described, write_folders, write_image, write_table

from hep2.data.image_source import whole_fields
from hep2.errors import HEp2Error
from hep2.prediction.cells import batches, find_images

HEADER = "image,specimen"


@pytest.mark.parametrize("masks", ["{i}_Mask.png", "masks/{i}.png", "{i}_seg.png", "GT/{i}.tif"])
def test_masks_in_a_folder(masks: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_folders(tmp_path / "data", "{i}.png", masks)
    with caplog.at_level(logging.INFO):
        found = find_images(str(root))
    assert [cell.id for cell in found] == [f"{cell['i']}.png" for cell in described()]
    assert "12 masks beside 12 cells are left out" in caplog.text


def test_nothing_but_masks(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "masks/{i}.png")
    with pytest.raises(HEp2Error, match="no image below but 12 masks"):
        find_images(str(root))


def refused(root: Path) -> str:
    with pytest.raises(HEp2Error) as caught:
        find_images(str(root / "cells.csv"))
    return str(caught.value)


def test_rows_that_are_masks(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "{i}.png", "{i}_Mask.png")
    write_table(root, "cells.csv", HEADER, lambda c: f"{c['i']}.png,\n{c['i']}_Mask.png,")
    text = refused(root)
    assert "a mask, no cell: 12 rows, e.g. cells.csv row 3 (00001_Mask.png), cells.csv" in text


def test_a_specimen_under_two_spellings(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "{i}.png")
    zeros = {"train": "", "test": "0"}
    write_table(root, "cells.csv", HEADER,
                lambda c: f"{c['i']}.png,{c['label']} {zeros[c['pool']]}{c['s']}")  # fmt: skip
    text = refused(root)
    assert text.count("one specimen under two spellings, write it in one way") == 6
    assert "'homogeneous 0' (2 cells)" not in text
    assert "'homogeneous 0' (1 cells) and 'homogeneous 00' (1 cells)" in text


def test_values_that_mean_nothing(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "{i}.png")
    write_table(
        root, "cells.csv", HEADER, lambda c: f"{c['i']}.png,{'nan' if c['s'] == '0' else 'x'}"
    )
    found = find_images(str(root / "cells.csv"))
    assert [cell.specimen for cell in found] == ["" if c["s"] == "0" else "x" for c in described()]
    write_table(root, "cells.csv", HEADER, lambda c: "NULL,x")
    assert "no image is named: 12 rows, e.g. cells.csv row 2 (NULL)" in refused(root)


def test_columns_in_other_words(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "{i}.png")
    write_table(root, "cells.csv", "filename;slide", lambda c: f"{c['i']}.png;x")
    assert "no column image" in refused(root)
    assert "filename" in refused(root)


def test_a_whole_field_and_a_mask_among_cells(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "{i}.png")
    write_image(root / "00005.png", side=100)
    write_image(root / "00007.png", mask=True)
    (batch,) = batches(find_images(str(root)), 8, "green")
    assert len(batch.image) == 10
    said = {cell.id: why for cell, why in zip(batch.cells, batch.problems, strict=True) if why}
    assert said.keys() == {"00005.png", "00007.png"}
    assert said["00005.png"].startswith("100 pixels wide or high where others have 12: a whole")
    assert said["00007.png"] == "only two values, 0 and 255: a mask, no cell"
    (alone,) = batches(find_images(str(root / "00001.png")), 8, "green")
    place = [cell.id for cell in batch.cells if not said.get(cell.id)].index("00001.png")
    np.testing.assert_array_equal(batch.image[place], alone.image[0])


def test_sizes_that_just_differ_are_no_fields() -> None:
    assert whole_fields([]) == {}
    assert whole_fields([10, 100]) == {}
    assert whole_fields([10] * 9 + [49]) == {}
    assert whole_fields([10] * 9 + [50]).keys() == {9}
