"""The MIVIA archive in its two forms, rebuilt by us in small."""

from pathlib import Path

import pytest
from conftest import composed
from helpers.small_sets import opened, refusal, write_image
from hydra.utils import instantiate

from hep2.data import sources

# Field, pattern, intensity; fields 1 and 2 are the contest's to train, 4 and 10 to test.
FIELDS = ((1, "homogeneous", "positive"), (2, "fine_speckled", "intermediate"),
          (4, "homogeneous", "intermediate"), (10, "fine_speckled", "positive"))  # fmt: skip


def contest(root: Path) -> Path:
    base = root / "ICPR2012_Cells_Classification_Contest"
    lines, number = ["id;set;image;intensity;mitosis;pattern;x;y"], 0
    for folder, fields in (("training", FIELDS[:2]), ("test", FIELDS[2:])):
        labels, identity = ["id;pattern"], 0
        for field, pattern, intensity in fields:
            for _ in range(2):
                number, identity = number + 1, identity + 1
                write_image(base / folder / f"{identity:03d}.png")
                write_image(base / folder / f"{identity:03d}_mask.png", mask=True)
                lines.append(f"{number};{folder};{field};{intensity};0;{pattern};1;2")
                labels.append(f"{identity};{pattern}")
        (base / folder / f"gt_{folder}.csv").write_text("\r\n".join(labels))
    (base / "cells.csv").write_text("\r\n".join(lines))
    return root


def main_set(root: Path) -> Path:
    base = root / "Main_Dataset"
    for field, pattern, intensity in FIELDS:
        lines = ["intensity;id;x;y;object;pattern;a;b;c;d"]
        for identity in (1, 2):
            write_image(base / f"Cells/Cell_Images/{field:02d}/{identity:03d}.png")
            write_image(base / f"Cells/Cell_Masks/{field:02d}/{identity:03d}.png", mask=True)
            lines.append(f"{intensity};{identity};5;5;cell;{pattern};1;2;3;4")
        lines.append(f"{intensity};3;5;5;mitosis;{pattern};1;2;3;4")
        write_image(base / f"Images/{field:02d}/{field:02d}.bmp", side=64)
        (base / f"Images/{field:02d}/{field:02d}.csv").write_text("\n".join(lines))
    return root


@pytest.mark.parametrize("make", [contest, main_set])
def test_cells_of_the_archive(make: object, tmp_path: Path) -> None:
    root = make(tmp_path / "data")  # type: ignore[operator]
    cfg = composed("data=mivia", f"data.root={root}")
    with pytest.warns(UserWarning, match="8 cells of 4 fields .published: 1455 of 28."):
        source = instantiate(cfg.data.source, _convert_="all")
    cells = opened(source, tmp_path)
    assert cells.classes == ("homogeneous", "fine_speckled")
    known = zip(cells.specimens, cells.labels, cells.intensities, cells.pools, strict=True)
    found = sorted((int(s), cells.classes[c], str(i), str(p)) for s, c, i, p in known)
    assert found == [(*field, "train" if field[0] < 3 else "test")
                     for field in FIELDS for _ in range(2)]  # fmt: skip
    beside = [row.file.with_name(f"{row.file.stem}_mask.png") for row in source.rows]
    assert [row.mask for row in source.rows] == (beside if make is contest else [Path()] * 8)


def test_tables_that_do_not_belong_together(tmp_path: Path) -> None:
    root = contest(tmp_path / "data")
    file = root / "ICPR2012_Cells_Classification_Contest" / "test" / "gt_test.csv"
    good = file.read_text()
    file.write_text(good.replace("1;homogeneous", "1;nucleolar"))

    def source() -> object:
        with pytest.warns(UserWarning, match="published"):
            return sources.mivia(str(root))

    text = refusal(source, tmp_path)
    assert "cells.csv row 6: homogeneous, but nucleolar in gt_test.csv" in text
    file.write_text(good + "\r\n5;nucleolar")
    text = refusal(lambda: sources.mivia(str(root)), tmp_path)
    assert "has 4 rows of the set test, gt_test.csv 5: they are not of one archive" in text
    file.write_text("id\r\n1")
    assert "row 2: fewer than 2 columns" in refusal(lambda: sources.mivia(str(root)), tmp_path)


def test_unknown_patterns_and_missing_images(tmp_path: Path) -> None:
    root = main_set(tmp_path / "data") / "Main_Dataset"
    table = root / "Images" / "01" / "01.csv"
    table.write_text(table.read_text().replace("2;5;5;cell;homogeneous", "2;5;5;cell;golgi"))
    (root / "Cells/Cell_Images/02/001.png").unlink()
    with pytest.warns(UserWarning, match="published"):
        source = sources.mivia(str(root))
    text = refusal(lambda: source, tmp_path)
    assert "01.csv row 3: unknown pattern 'golgi'; the set has homogeneous, coarse_speckled" in text
    assert "02.csv row 2 (Cells/Cell_Images/02/001.png): missing file" in text


def test_neither_form(tmp_path: Path) -> None:
    text = refusal(lambda: sources.mivia(str(tmp_path)), tmp_path)
    assert "holds neither ICPR2012_Cells_Classification_Contest/cells.csv nor" in text
