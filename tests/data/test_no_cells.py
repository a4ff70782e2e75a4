"""What is no cell is not taken for one."""

import logging
from pathlib import Path

import pytest
from helpers.small_sets import (
    all_specimens,
    described,
    opened,
    refusal,
    specimens_of,
    write_folders,
    write_image,
    write_table,
)

from hep2.data import sources
from hep2.data.no_cells import told_apart

CELL = "{label}/{specimen}/{i}.png"
BESIDE = ("{i}_Mask.png", "{i}_mask.tif", "{i}-mask.png", "{i}.mask.png", "mask_{i}.png",
          "{i} mask.png", "{i}Mask.png", "{i}_cp_masks.png", "{i}_seg.png", "{i}_label.png",
          "{i}_gt.png", "GT_{i}.png", "{i}_segmentation.png", "{i}_binary_mask.bmp",
          "{i}(mask).png", "{i}.png_mask.png")  # fmt: skip
INSIDE = ("masks", "Mask", "seg", "labels", "ground_truth", "GT", "annotations", "rois")


@pytest.mark.parametrize("form", BESIDE)
def test_masks_beside_cells(form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_folders(tmp_path / "data", CELL, f"{{label}}/{{specimen}}/{form}")
    with caplog.at_level(logging.INFO):
        source = sources.folder(str(root))
    assert "12 masks beside 12 cells are left out" in caplog.text
    for row, cell in zip(source.rows, described(), strict=True):
        assert row.id == CELL.format(**cell)
        assert row.mask == root / f"{cell['label']}/{cell['specimen']}" / form.format(**cell)
    assert specimens_of(opened(source, tmp_path)) == all_specimens()


@pytest.mark.parametrize("name", INSIDE)
def test_masks_in_a_folder_of_their_own(name: str, tmp_path: Path) -> None:
    root = write_folders(tmp_path / "inner", CELL, f"{{label}}/{{specimen}}/{name}/{{i}}.png")
    rows = sources.folder(str(root)).rows
    assert [row.mask.parent.name for row in rows] == [name] * 12
    outer = write_folders(tmp_path / "outer", f"images/{CELL}", f"{name}/{CELL}")
    rows = sources.folder(str(outer / "images")).rows
    assert len(rows) == 12
    rows = sources.folder(str(outer), layout="_/label/specimen").rows
    assert [row.mask for row in rows] == [outer / name / CELL.format(**c) for c in described()]


def test_the_contest_s_masks(tmp_path: Path) -> None:
    pools = {"train": "tra", "test": "tes"}
    root = tmp_path / "data"
    (root / "val").mkdir(parents=True)
    for cell in described():
        for name in ("{i}.png", "{i}_Mask.png"):
            file = f"{pools[cell['pool']]}/{cell['label']}/{name.format(**cell)}"
            write_image(root / file, mask="Mask" in name)
    with pytest.warns(UserWarning, match="6/0/6"):
        source = sources.i3a(str(root))
    assert [row.id for row in source.rows] == [cell["i"] for cell in described()]
    assert [row.mask.name for row in source.rows] == [f"{c['i']}_Mask.png" for c in described()]


def test_a_sister_folder_of_masks_with_the_same_names(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "images/{i}.png", "masks/{i}.png")
    header = "Image ID,Image class,Intensity"
    write_table(root, "gt_training.csv", header, lambda c: f"{c['i']},{c['label']},Positive")
    source = sources.i3a(str(root))
    assert [row.mask for row in source.rows] == [root / f"masks/{c['i']}.png" for c in described()]
    assert opened(source, tmp_path).intensities.tolist() == ["positive"] * 12


def test_words_that_may_mean_a_mask_need_its_cell(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "{label}/{specimen}/label_{i}.png")
    assert len(sources.folder(str(root)).rows) == 12


def test_pictures_of_something_else(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", CELL)
    write_image(root / "homogeneous" / "overview.png")
    write_image(root / "homogeneous" / "HOM0" / "Table 1.png")
    with pytest.warns(UserWarning, match=r"2 pictures of something else .*overview.*Table 1"):
        rows = sources.folder(str(root)).rows
    assert len(rows) == 12


def test_names_that_most_images_have_are_names_of_cells(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "{label}/{specimen}/fig{i}.png")
    assert len(told_apart(root.rglob("*.png"), root).cells) == 12


def test_a_whole_field_among_cells(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", CELL)
    write_image(root / "homogeneous" / "HOM0" / "S01.png", side=400)
    text = refusal(lambda: sources.folder(str(root)), tmp_path)
    assert "homogeneous/HOM0/S01.png: 400 pixels wide or high where others have 12" in text


def test_a_mask_without_a_word_is_told_by_its_pixels(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", CELL, "{label}/{specimen}/{i}_x.png")
    text = refusal(lambda: sources.folder(str(root)), tmp_path)
    assert "12 problems" in text
    assert "only two values, 0 and 255: a mask, no cell: 12 rows, e.g. homogeneous/HOM0" in text


def test_nothing_but_masks(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "masks/{i}.png")
    assert "no image but 12 masks" in refusal(lambda: sources.folder(str(root)), tmp_path)


def test_a_manifest_that_lists_masks_as_cells(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "{i}.png", "{i}_Mask.png")
    header = "image,label,specimen"

    def rows(cell: dict[str, str]) -> str:
        end = f"{cell['label']},{cell['specimen']}"
        return f"{cell['i']}.png,{end}\n{cell['i']}_Mask.png,{end}"

    write_table(root, "manifest.csv", header, rows)
    text = refusal(lambda: sources.manifest(str(root)), tmp_path)
    assert "a mask, no cell; leave it out, or name it in a column mask: 12 rows, e.g." in text


def test_columns_mask_intensity_and_source(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "{i}.png", "{i}_Mask.png")
    table, header = (root, "manifest.csv"), "image,label,specimen"
    write_table(*table, header, row := lambda c: f"{c['i']}.png,{c['label']},{c['specimen']}")
    plain = opened(sources.manifest(str(root)), tmp_path)
    assert plain.sources.tolist() == plain.intensities.tolist() == [""] * 12
    masked = f"{header},mask,intensity,source"
    write_table(*table, masked, lambda c: f"{row(c)},{c['i']}_Mask.png,,nan")
    source = sources.manifest(str(root))
    assert [row.mask for row in source.rows] == [root / f"{c['i']}_Mask.png" for c in described()]
    assert opened(source, tmp_path).key == plain.key  # nothing that moves a number
    write_table(*table, f"{header},intensity,source", lambda c: f"{row(c)},positive,{c['s']}")
    cells = opened(sources.manifest(str(root)), tmp_path)
    assert cells.sources.tolist() == [cell["s"] for cell in described()]
    assert cells.intensities.tolist() == ["positive"] * 12
    assert cells.key != plain.key


def test_a_mask_that_is_missing(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "data", "{i}.png")
    write_table(root, "manifest.csv", "image,label,specimen,mask",
                lambda c: f"{c['i']}.png,{c['label']},{c['specimen']},no.png")  # fmt: skip
    assert "missing file of its mask: 12 rows" in refusal(
        lambda: sources.manifest(str(root)), tmp_path
    )
