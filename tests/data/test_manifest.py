from pathlib import Path

import cv2
import numpy as np
import pytest

from hep2.data.sources import manifest
from hep2.data.store import open_cells
from hep2.errors import HEp2Error

GOOD = [("a1.png", "a", "s1"), ("a2.png", "a", "s2"), ("b1.png", "b", "s3"), ("b2.png", "b", "s4")]


def write_cells(root: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (12, 12)).astype(np.uint8)
        assert cv2.imwrite(str(root / name), pixels)


def write_csv(
    root: Path, rows: list[tuple[str, ...]], header: str = "image,label,specimen"
) -> None:
    text = "\n".join([header, *(",".join(row) for row in rows)])
    (root / "manifest.csv").write_text(text + "\n", encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    write_cells(root, [row[0] for row in GOOD])
    write_csv(root, GOOD)
    return root


def message(root: Path) -> str:
    with pytest.raises(HEp2Error) as caught:
        open_cells(manifest(str(root)), root.parent / "cache", 8, "green")
    return str(caught.value)


def test_good_manifest(root: Path) -> None:
    cells = open_cells(manifest(str(root)), root.parent / "cache", 8, "green")
    assert cells.ids.tolist() == ["a1.png", "a2.png", "b1.png", "b2.png"]
    assert cells.classes == ("a", "b")
    assert cells.labels.tolist() == [0, 0, 1, 1]
    assert cells.specimens.tolist() == ["s1", "s2", "s3", "s4"]
    assert cells.pools.tolist() == [""] * 4
    assert (cells.name, cells.synthetic) == ("manifest", False)


def test_pools_byte_order_mark_spaces_quotes_and_other_columns(root: Path) -> None:
    text = "\ufeffspecimen,note, image ,label,pool\r\n"
    text += 's1,"x, y",a1.png,a,train\r\n\r\ns2,, ./a2.png ,a,test\r\n'
    (root / "manifest.csv").write_bytes(text.encode())
    cells = open_cells(manifest(str(root)), root.parent / "cache", 8, "green")
    assert cells.ids.tolist() == ["a1.png", "a2.png"]
    assert cells.specimens.tolist() == ["s1", "s2"]
    assert cells.pools.tolist() == ["train", "test"]


def test_the_root_may_be_the_csv_or_another_folder(root: Path) -> None:
    cache = root.parent / "cache"
    ids = open_cells(manifest(str(root)), cache, 8, "green").ids.tolist()
    direct = manifest(str(root / "manifest.csv"))
    assert open_cells(direct, cache, 8, "green").ids.tolist() == ids
    elsewhere = (root / "manifest.csv").rename(root.parent / "list.csv")
    named = manifest(str(root), manifest=str(elsewhere))
    assert open_cells(named, cache, 8, "green").ids.tolist() == ids


def test_all_bad_rows_at_once(root: Path) -> None:
    (root / "text.png").write_text("no image")
    (root / "void.png").touch()
    rows = [
        *GOOD,
        ("none.png", "a", "s1"),  # row 6
        ("text.png", "a", "s1"),
        ("void.png", "a", "s1"),
        ("./a1.png", "a", "s1"),
        ("", "a", "s1"),  # row 10
        ("x.png", "", "s1"),
        ("../x.png", "a", "s1"),
        ("b1.png", "b"),
        ("lone.png", "c", "s1"),  # row 14: also mixes labels within s1
    ]
    write_cells(root, ["x.png"])
    write_csv(root, rows)
    with pytest.warns(UserWarning, match="more than one label"):
        text = message(root)
    for line in (
        f"{root}: 10 problems; mend or remove",
        "manifest.csv row 6 (none.png): missing file",
        "manifest.csv row 7 (text.png): the image cannot be decoded",
        "manifest.csv row 8 (void.png): the file is empty (0 bytes)",
        "manifest.csv row 9 (a1.png): duplicate ID, manifest.csv row 2 has it too",
        "manifest.csv row 10 (): no image is named",
        "manifest.csv row 11 (x.png): the label is empty",
        "manifest.csv row 12 (../x.png): the image lies outside the data root",
        "manifest.csv row 13: 2 fields, the header has 3",
        "manifest.csv row 14 (lone.png): class 'c' has a single specimen ('s1')",
        "manifest.csv row 14 (lone.png): missing file",
    ):
        assert line in text


def test_many_bad_rows_of_one_kind_are_said_once(root: Path) -> None:
    write_csv(root, [*GOOD, *((f"none{n:02}.png", "a", "s1") for n in range(25))])
    text = message(root)
    assert "25 problems" in text
    assert text.count("missing file") == 1
    assert "missing file: 25 rows, e.g. manifest.csv row 6 (none00.png), manifest.csv row 7" in text
    assert "none03.png" not in text


def test_long_lists_are_cut_and_counted(root: Path) -> None:
    write_csv(root, [*GOOD, *((row[0], "a", "s1") for row in GOOD * 7)])
    text = message(root)
    assert "28 problems" in text
    assert text.count("duplicate ID") == 4


def test_unknown_and_missing_pool(root: Path) -> None:
    pools = ("train", "training", "", "test")
    write_csv(
        root, [(*row, p) for row, p in zip(GOOD, pools, strict=True)], "image,label,specimen,pool"
    )
    text = message(root)
    assert "row 3 (a2.png): unknown pool 'training'; allowed are train, val, test" in text
    assert "row 4 (b1.png): no pool, though other rows have one" in text
    assert "2 problems" in text


def test_same_pixels_under_two_specimens(root: Path) -> None:
    pixels = cv2.imread(str(root / "a1.png"), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(root / "b2.bmp"), pixels)
    write_csv(root, [*GOOD, ("b2.bmp", "b", "s4")])
    assert (
        "row 6 (b2.bmp): same pixels as manifest.csv row 2 (a1.png),"
        " but specimen 's4' here and 's1' there"
    ) in message(root)


def test_same_pixels_within_a_specimen_warn(root: Path) -> None:
    (root / "a3.png").write_bytes((root / "a1.png").read_bytes())
    write_csv(root, [*GOOD, ("a3.png", "a", "s1")])
    with pytest.warns(UserWarning, match=r"row 6 \(a3.png\): same pixels as manifest.csv row 2"):
        cells = open_cells(manifest(str(root)), root.parent / "cache", 8, "green")
    assert len(cells) == 5


def test_constant_images_warn(root: Path) -> None:
    for name in ("a1.png", "b1.png"):  # equal, under two specimens: no error
        cv2.imwrite(str(root / name), np.zeros((9, 9), np.uint8))
    with pytest.warns(
        UserWarning,
        match=r"(?s)images in which every pixel has the same value .2.:.*\(a1.png\).*\(b1.png\)",
    ):
        open_cells(manifest(str(root)), root.parent / "cache", 8, "green")


def test_specimen_with_two_labels_warns(root: Path) -> None:
    write_csv(root, [*GOOD[:3], ("b2.png", "b", "s1")])
    with pytest.warns(UserWarning, match=r"s1: a \(1 cells\), b \(1 cells\)"):
        manifest(str(root))


def test_partly_known_specimens(root: Path) -> None:
    write_csv(root, [*GOOD[:3], ("b2.png", "b", "")])
    assert "row 5 (b2.png): no specimen, though other rows have one" in message(root)


def test_unknown_specimens_are_no_single_specimen(root: Path) -> None:
    write_csv(root, [(image, label, "") for image, label, _ in GOOD])
    cells = open_cells(manifest(str(root)), root.parent / "cache", 8, "green")
    assert cells.specimens.tolist() == [""] * 4


def test_outside_the_root_only_if_allowed(root: Path) -> None:
    write_cells(root.parent, ["out.png"])
    write_csv(root, [*GOOD[1:], ("../out.png", "a", "s1")])
    source = manifest(str(root), allow_outside=True)
    cells = open_cells(source, root.parent / "cache", 8, "green")
    assert cells.ids[0] == "../out.png"
    assert "row 5 (../out.png): the image lies outside" in message(root)  # not from the cache
    write_csv(root, [*GOOD[1:], (str(root.parent / "out.png"), "a", "s1")])
    assert f"row 5 ({root.parent / 'out.png'}): the image lies outside" in message(root)
    write_csv(root, [*GOOD[1:], (str(root / "a1.png"), "a", "s1")])  # absolute, but inside
    cells = open_cells(manifest(str(root)), root.parent / "cache", 8, "green")
    assert cells.ids[0] == "a1.png"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "manifest.csv is empty"),
        (b"\xef\xbb\xbf\n", "manifest.csv is empty"),
        (b"image,label,specimen\n", "manifest.csv has a header but no rows"),
        (b"image,label\na1.png,a\n", "manifest.csv row 1: no column specimen; the header must"),
        (b"image;label;specimen\n", "manifest.csv has a header but no rows"),
        (b"image;label;patience\n", "row 1: no column specimen"),
        (b"image,label,specimen,label\n", "row 1: column label appears twice"),
        (b"image,label,specimen\na1.png,a,s1\n\xe9.png,a,s1\n", "row 3: not UTF-8 text"),
        ("image,label,specimen\n".encode("utf-16"), "manifest.csv has a header but no rows"),
        (b"PK\x03\x04 and so on", "manifest.csv is an Excel workbook or a ZIP archive"),
        (b'image,label,specimen\na1.png,a,"s1\n', "not a valid CSV"),
    ],
)
def test_unusable_csv(root: Path, content: bytes, expected: str) -> None:
    (root / "manifest.csv").write_bytes(content)
    text = message(root)
    assert expected in text
    assert str(root / "manifest.csv") in text


def test_missing_csv(root: Path) -> None:
    (root / "manifest.csv").unlink()
    assert f"{root / 'manifest.csv'}: no such file" in message(root)


def test_an_image_path_with_a_null_character(root: Path) -> None:
    write_csv(root, [*GOOD, ("a\0.png", "a", "s1")])
    assert "manifest.csv row 6" in message(root)
