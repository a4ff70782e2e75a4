"""The MIVIA HEp-2 set (ICPR 2012 contest), in the two forms in which its archive holds it.

The forms are those that a public reader of the archive reads (github.com/PetterS/hep-2, of
Strandmark, Ulen and Kahl, ICPR 2012); its tables have no headers that we know, so columns go by
their places, and values are checked.
"""

from collections.abc import Iterator
from pathlib import Path

from hep2.data.cells import Row
from hep2.data.csv_text import Record, records
from hep2.data.spelling import id_key, normal
from hep2.errors import HEp2Error

CONTEST, MAIN = "ICPR2012_Cells_Classification_Contest", "Main_Dataset"
CLASSES = ("homogeneous", "coarse_speckled", "fine_speckled", "nucleolar", "centromere",
           "cytoplasmatic")  # fmt: skip
INTENSITIES = ("positive", "intermediate")
POOLS = {"training": "train", "test": "test"}  # folders of the contest, and values in cells.csv
TRAINING_FIELDS = (1, 2, 3, 5, 6, 7, 8, 9, 11, 14, 18, 20, 25, 26)  # the contest's
_ALSO = {"centromeric": "centromere"}  # in the tables of some fields


def mivia_rows(root: Path, problems: list[str]) -> list[Row]:
    """The cells below the archive's folder, or below one of its two.

    A field is a specimen (28 images of 28 patients); pools are the contest's training and test.

    Raises:
        HEp2Error: neither form is there, or a table is not what the archive has.
    """
    for base in (root, root / CONTEST):
        if (base / "cells.csv").is_file():
            return list(_contest(base, root, problems))
    for base in (root, root / MAIN):
        if (base / "Images").is_dir() and (base / "Cells" / "Cell_Images").is_dir():
            return list(_fields(base, root, problems))
    raise HEp2Error(
        f"{root} holds neither {CONTEST}/cells.csv nor {MAIN}/Images and {MAIN}/Cells/Cell_Images;"
        " add data.root=<the folder of the MIVIA archive>"
    )


def _contest(base: Path, root: Path, problems: list[str]) -> Iterator[Row]:
    """training/ and test/ with NNN.png and NNN_mask.png; cells.csv says which field each is of.

    cells.csv (ID, set, field, intensity, -, pattern, ...) has the cells of each set in the order of
    <set>/gt_<set>.csv (ID, pattern).
    """
    every = _table(base / "cells.csv", 6)
    for folder, pool in POOLS.items():
        cells = [(number, fields) for number, fields in every if normal(fields[1]) == folder]
        labels = _table(base / folder / f"gt_{folder}.csv", 2)
        if len(cells) != len(labels):
            raise HEp2Error(
                f"{base / 'cells.csv'} has {len(cells)} rows of the set {folder}, gt_{folder}.csv"
                f" {len(labels)}: they are not of one archive"
            )
        files = {id_key(file.name): file for file in sorted((base / folder).glob("*.*"))}
        for (number, fields), (_, (identity, label, *_)) in zip(cells, labels, strict=True):
            origin = f"cells.csv row {number}"
            if _pattern(label) != _pattern(fields[5]):
                problems.append(f"{origin}: {fields[5]}, but {label} in gt_{folder}.csv")
                continue
            key = id_key(identity)
            file = files.get(key, base / folder / f"{key:0>3}.png")
            mask = files.get(f"{file.stem.casefold()}_mask", Path())
            yield from _row(root, fields[2], fields[3], label, pool, file, mask, origin, problems)


def _fields(base: Path, root: Path, problems: list[str]) -> Iterator[Row]:
    """Images/NN/NN.csv (intensity, ID, x, y, kind, pattern, box) and Cells/Cell_Images/NN/."""
    for table in sorted((base / "Images").glob("*/*.csv")):
        field = table.parent.name
        folder = base / "Cells" / "Cell_Images" / field
        files = {id_key(file.name): file for file in sorted(folder.glob("*.*"))}
        for number, fields in _table(table, 6):
            if normal(fields[4]) != "cell":
                continue  # other things of a field, as mitoses
            key, training = id_key(fields[1]), id_key(field) in map(str, TRAINING_FIELDS)
            file, pool = files.get(key, folder / f"{key:0>3}.png"), "train" if training else "test"
            origin = f"{table.name} row {number}"
            yield from _row(root, field, fields[0], fields[5], pool, file, Path(), origin, problems)


def _row(
    root: Path, field: str, intensity: str, label: str, pool: str, file: Path, mask: Path,
    origin: str, problems: list[str],
) -> Iterator[Row]:  # fmt: skip
    pattern, strength = _pattern(label), normal(intensity)
    if pattern not in CLASSES:
        problems.append(f"{origin}: unknown pattern '{label}'; the set has {', '.join(CLASSES)}")
    elif strength not in INTENSITIES:
        problems.append(f"{origin}: unknown intensity '{intensity}'; the set has positive and"
                        " intermediate")  # fmt: skip
    else:
        name = file.relative_to(root).as_posix()
        yield Row(name, pattern, f"{id_key(field):0>2}", pool, file, origin, mask, strength)


def _pattern(label: str) -> str:
    word = normal(label).replace(" ", "_")
    return _ALSO.get(word, word)


def _table(path: Path, columns: int) -> list[Record]:
    """The rows of a table below its header; HEp2Error where one has too few fields."""
    rows = []
    for number, fields in records(path, ())[1]:
        if len(fields) < columns:
            raise HEp2Error(f"{path} row {number}: fewer than {columns} columns")
        rows.append((number, [field.strip() for field in fields]))
    return rows
