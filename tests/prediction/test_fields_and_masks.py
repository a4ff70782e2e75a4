"""Fields and masks find each other; their cells are called like the same cells as images."""

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers.results import rows_of
from helpers.small_fields import BOXES, WHOLE, write_fields
from helpers.trained_runs import CLASSES, write_pair

from hep2.data.fields import Cut, cut_out
from hep2.errors import HEp2Error
from hep2.prediction.fields import find_fields
from hep2.prediction.predict import Summary, predict

Row = dict[str, str]


def ask(root: Path, **other: Any) -> tuple[Summary, list[Row], list[Row]]:
    """The summary, the rows of the cells, and those of the specimens."""
    asked = {"images": str(root / "fields"), "masks": str(root / "masks"), **other}
    out = root / "out/calls.csv"
    summary = predict("default", root / "runs", out=str(out), orientations=1, **asked)
    return summary, rows_of(out), rows_of(out.with_name("calls-specimens.csv"))


def test_cells_of_fields_are_called_like_the_same_cells_as_images(tmp_path: Path) -> None:
    write_pair(tmp_path / "runs")
    fields, _ = write_fields(tmp_path, "f", "g")
    summary, rows, _ = ask(tmp_path)
    assert [row["id"] for row in rows] == [f"{f}.png#{n}" for f in "fg" for n in sorted(BOXES)]
    assert (summary.cells, summary.unreadable) == (10, 4)
    for name in "fg":
        pixels = cv2.imread(str(fields / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        for label in WHOLE:
            cell = tmp_path / f"cells/{name}.png#{label}.png"
            cell.parent.mkdir(exist_ok=True)
            assert cv2.imwrite(str(cell), cut_out(pixels, BOXES[label], 16, Cut()))
    out = tmp_path / "cells.csv"
    predict("default", tmp_path / "runs", str(tmp_path / "cells"), str(out), 1)
    alone = {row["id"].removesuffix(".png"): row for row in rows_of(out)}
    called = [row for row in rows if not row["problem"]]
    assert {row["id"] for row in called} == alone.keys()
    for row in called:
        for key in (f"p_{name}" for name in CLASSES):
            assert float(row[key]) == pytest.approx(float(alone[row["id"]][key]), abs=1e-6)


def test_marked_cells_have_a_row_and_no_vote(tmp_path: Path) -> None:
    write_pair(tmp_path / "runs")
    write_fields(tmp_path, "f")
    _, rows, specimens = ask(tmp_path)
    marked = {row["id"]: row["problem"] for row in rows if not row["output"]}
    assert marked["f.png#7"] == "cut off by the field's border"
    assert marked["f.png#210"].startswith("too small: 9 pixels")
    (one,) = specimens
    assert (one["specimen"], one["cells"], one["without_call"]) == ("f", "3", "2")


def test_the_margin_is_heeded(tmp_path: Path) -> None:
    write_pair(tmp_path / "runs")
    write_fields(tmp_path, "f")
    key = f"p_{CLASSES[0]}"
    usual, wide = (
        [row[key] for row in ask(tmp_path, cut=how)[1]] for how in (Cut(), Cut(margin=1))
    )
    assert usual != wide


def test_masks_are_found_by_folder_and_stem(tmp_path: Path) -> None:
    forms = ("{}.tif", "{}_masks.png", "{}_cp_masks.png", "{}-labels.png", "{}.stardist.tif")
    for number, form in enumerate(forms):
        write_fields(tmp_path, f"s/{number}", mask=f"masks/{form}")
    found = find_fields(str(tmp_path / "fields"), str(tmp_path / "masks"))
    assert [(field.id, field.mask) for field in found] == [
        (f"s/{number}.png", tmp_path / "masks" / form.format(f"s/{number}"))
        for number, form in enumerate(forms)
    ]


def test_masks_in_the_folder_of_the_fields(tmp_path: Path) -> None:
    for mask in ("fields/{}_cp_masks.png", "fields/masks/{}.png"):
        write_fields(tmp_path / mask[7], "a", "b", mask=mask)
    for root, masks in ((tmp_path / "{", "fields"), (tmp_path / "m", "fields/masks")):
        found = find_fields(str(root / "fields"), str(root / masks))
        assert [field.id for field in found] == ["a.png", "b.png"]
        assert all(field.mask and field.mask.stem[0] == field.id[0] for field in found)


def test_specimens_are_folders_or_names_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_fields(tmp_path, "s1/a", "s1/b", "s2/a", "c")
    with caplog.at_level(logging.WARNING):
        found = find_fields(str(tmp_path / "fields"), str(tmp_path / "masks"))
    assert [field.specimen for field in found] == ["c", "s1", "s1", "s2"]
    assert "each field's folder is taken for its specimen" in caplog.text
    found = find_fields(str(tmp_path / "fields/s1"), str(tmp_path / "masks/s1"))
    assert [field.specimen for field in found] == ["a", "b"]
    assert "each field's file name is taken" in caplog.text


def test_a_csv_names_fields_masks_and_specimens(tmp_path: Path) -> None:
    write_pair(tmp_path / "runs")
    write_fields(tmp_path, "f", "g")
    table = tmp_path / "batch.csv"
    lines = [f"fields/{name}.png;masks/{name}_cp_masks.png;serum 1" for name in "fg"]
    table.write_text("\n".join(["image;mask;specimen", *lines]))
    _, rows, specimens = ask(tmp_path, images=str(table), masks="mask")
    assert {row["specimen"] for row in rows} == {"serum 1"}
    (one,) = specimens
    assert (one["cells"], one["without_call"]) == ("6", "4")


def test_a_field_that_cannot_be_used_is_a_row_with_its_reason(tmp_path: Path) -> None:
    write_pair(tmp_path / "runs")
    fields, masks = write_fields(tmp_path, "a", "b", "c", "d")
    (masks / "a_cp_masks.png").unlink()
    (fields / "b.png").write_bytes(b"no image")
    assert cv2.imwrite(str(masks / "c_cp_masks.png"), np.zeros((60, 90), np.uint8))
    summary, rows, specimens = ask(tmp_path)
    said = {row["id"]: row["problem"] for row in rows if "#" not in row["id"]}
    assert said["a.png"] == "no mask was found"
    assert "cannot be decoded" in said["b.png"]
    assert said["c.png"] == "its mask has no cell: all of it is 0"
    assert (summary.cells, len(rows)) == (8, 8)
    assert [(one["specimen"], one["cells"], one["output"] == "") for one in specimens] == [
        ("a", "0", True), ("b", "0", True), ("c", "0", True), ("d", "3", False),
    ]  # fmt: skip
    assert specimens[0]["doubts"] == "no cell could be named"


@pytest.mark.parametrize(
    ("images", "masks", "said"),
    [
        ("nowhere", "masks", "images=.*nowhere: no such file or folder"),
        ("fields", "nowhere", "masks=.*nowhere: no such file or folder"),
        ("fields", "masks/f_cp_masks.png", "give two folders, or two images"),
        ("fields", "empty", "none of the 2 images of .* has a mask there"),
        ("batch.csv", "mask", "row 1: no column mask"),
        ("twice.csv", "mask", "a field stands in several rows"),
        ("spelt.csv", "mask", "one specimen under two spellings.*1 fields"),
    ],
)
def test_wrong_doors_are_one_error(images: str, masks: str, said: str, tmp_path: Path) -> None:
    write_fields(tmp_path, "f", "g")
    (tmp_path / "empty").mkdir()
    (tmp_path / "batch.csv").write_text("image\nfields/f.png\n")
    row = "fields/f.png,masks/f_cp_masks.png,"
    (tmp_path / "twice.csv").write_text(f"image,mask,specimen\n{row}a\n{row}a\n")
    other = row.replace("/f", "/g")
    (tmp_path / "spelt.csv").write_text(f"image,mask,specimen\n{row}s1\n{other}S-01\n")
    named = masks if masks == "mask" else str(tmp_path / masks)
    with pytest.raises(HEp2Error, match=said):
        find_fields(str(tmp_path / images), named)


def test_two_masks_of_one_field_are_refused(tmp_path: Path) -> None:
    write_fields(tmp_path, "f")
    write_fields(tmp_path, "f", mask="masks/{}.png")
    with pytest.raises(HEp2Error, match=r"f\.png has several masks, keep one"):
        find_fields(str(tmp_path / "fields"), str(tmp_path / "masks"))


def test_masks_of_no_field_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fields, masks = write_fields(tmp_path, "f", "g")
    (fields / "g.png").unlink()
    with caplog.at_level(logging.WARNING):
        find_fields(str(fields), str(masks))
    assert "masks of no field are left out" in caplog.text and "g_cp_masks.png" in caplog.text


def test_novelty_maps_have_the_novelty_as_their_mean(tmp_path: Path) -> None:
    from hep2.prediction.gathered import novelty_map
    from hep2.prediction.models import load_ensemble

    for fold in range(2):
        write_pair(tmp_path / "runs", fold)
    network = load_ensemble("default", tmp_path / "runs", 1).network
    image = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        novelties = network(image, 1)[1]
    means = [float(novelty_map(network, one).mean()) for one in image]
    np.testing.assert_allclose(means, novelties.numpy(), rtol=1e-5)
