"""The files of the I3A contest: labels, specimens and images that meet by their IDs."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hep2.data.cells import Row
from hep2.data.levels import unusual
from hep2.data.manifest import read_csv
from hep2.data.spelling import id_key, nothing, said, spelling_key
from hep2.errors import HEp2Error

log = logging.getLogger(__name__)

LABELS, SPECIMENS = "gt_training.csv", "specimens.csv"
TABLES = (".csv", ".tsv", ".txt", ".xls", ".xlsx", ".ods")  # what a table may have been saved as
POOL_FOLDERS = {"tra": "train", "val": "val", "tes": "test"}

Files = Mapping[str, list[Path]]  # by the key of the image ID: `spelling.id_key`
Specimens = Mapping[str, tuple[str, str]]  # by that key: the specimen, and the ID as it is written


def table(base: Path, name: str) -> Path:
    """The file of a name, however it is spelt: specimens.csv, Specimens.CSV, specimen.csv.

    Raises:
        HEp2Error: only a file of another kind, or more than one, is called so.
    """
    if (exact := base / name).is_file():
        return exact
    stem, suffix = spelling_key(exact.stem), exact.suffix
    alike = [
        file
        for file in sorted(base.glob("*.*"))
        if spelling_key(file.stem) == stem and file.suffix.lower() in TABLES
    ]
    if not alike:
        return exact
    if len(alike) > 1 or alike[0].suffix.lower() != suffix:
        names = ", ".join(file.name for file in alike)
        raise HEp2Error(f"{base} holds {names}; save the one that counts as {name}")
    return alike[0]


def read_specimens(path: Path, problems: list[str]) -> dict[str, tuple[str, str]]:
    """By the keys of image IDs: the specimen, and the ID as the CSV writes it."""
    specimens: dict[str, tuple[str, str]] = {}
    if not path.is_file():
        return specimens
    for number, cell in read_csv(path, ("Image ID", "Specimen"), problems):
        identity, specimen = cell["Image ID"], cell["Specimen"]
        first, _ = specimens.setdefault(id_key(identity), (specimen, identity))
        if first != specimen:
            problems.append(
                f"{path.name} row {number} ({identity}): specimen '{specimen}', but '{first}' above"
            )
    if specimens and all(nothing(specimen) for specimen, _ in specimens.values()):
        raise HEp2Error(
            f"{path} names no specimen: all {len(specimens)} are empty or say that there is none;"
            " fill them in, or take the file away"
        )
    return specimens


def labelled_by_csv(
    labels: Path, files: Files, specimens: Specimens, problems: list[str]
) -> Iterator[Row]:
    """Rows by gt_training.csv; raises HEp2Error where none of its IDs is an image's name."""
    root = labels.parent
    cells = list(read_csv(labels, ("Image ID", "Image class"), problems, ("Intensity",)))
    keys = {id_key(cell["Image ID"]) for _, cell in cells}
    if cells and files and not keys & files.keys():
        raise HEp2Error(
            f"none of the {len(keys)} IDs of {labels} is an image's name, e.g."
            f" {cells[0][1]['Image ID']} there and {next(iter(files.values()))[0].name} here"
        )
    for number, cell in cells:
        identity, label = cell["Image ID"], cell["Image class"]
        origin = f"{LABELS} row {number}"
        found = files.get(id_key(identity), [])
        if nothing(identity) or not label:
            problems.append(f"{origin} ({identity}): the image ID or the class is empty")
        elif len(found) > 1:
            names = ", ".join(str(file.relative_to(root)) for file in found)
            problems.append(f"{origin} ({identity}): more than one image has this ID: {names}")
        elif not found:
            problems.append(f"{origin} ({identity}): missing file: no image of this name in {root}")
        else:
            folders = found[0].relative_to(root).parts[:-1]
            pool = next((POOL_FOLDERS[part] for part in folders if part in POOL_FOLDERS), "")
            specimen, _ = specimens.get(id_key(identity), ("", ""))
            intensity = said(cell.get("Intensity", "")).casefold()
            yield Row(identity, label, specimen, pool, found[0], origin, intensity=intensity)
    if extra := sum(len(files[key]) for key in files.keys() - keys):
        log.info("%s: %d images that no row of %s names are left out", root, extra, LABELS)


def labelled_by_folder(
    root: Path, files: Files, specimens: Specimens, problems: list[str]
) -> Iterator[Row]:
    """Rows by the folders tra/val/tes/<class>/."""
    for number, found in files.items():
        for file in found:
            parts = file.relative_to(root).parts
            pool, origin = POOL_FOLDERS.get(parts[0]), "/".join(parts)
            if pool and len(parts) == 3:
                specimen, _ = specimens.get(number, ("", ""))
                yield Row(file.stem, parts[1], specimen, pool, file, origin)
            elif pool:
                problems.append(f"{origin}: not in {parts[0]}/<class>/; move it there")


def check_meeting(
    rows: Sequence[Row], specimens: Specimens, where: str, problems: list[str]
) -> None:
    """Say so where specimens.csv is of other cells, or of some of the cells only."""
    if not specimens or not rows:
        return
    without = [row for row in rows if id_key(row.id) not in specimens]
    if not without:
        return
    keys = {id_key(row.id) for row in rows}
    others = [written for key, (_, written) in specimens.items() if key not in keys]
    if len(without) == len(rows):
        raise HEp2Error(
            f"{SPECIMENS}: none of its {len(specimens)} IDs is in {where}, e.g. {others[0]} here"
            f" and {rows[0].id} there; write the IDs alike, or take the file away"
        )
    stray = f"; {len(others)} of its IDs are not there, e.g. {others[0]}" if others else ""
    problems.insert(
        0,
        f"{SPECIMENS} names the specimens of {len(rows) - len(without)} of the {len(rows)} cells of"
        f" {where}, not of {len(without)}, e.g. {without[0].id}{stray}",
    )


def missing(base: Path, cells: Sequence[Path]) -> str:
    """What is said of a folder in neither form: where the set may be, or what reads it."""
    text = f"{base} has neither {LABELS} nor the folders tra, val and tes"
    for form in (f"*/{LABELS}", "*/tra", f"*/*/{LABELS}", "*/*/tra"):
        if deeper := sorted(base.glob(form)):
            return f"{text}, but {deeper[0].parent} has: add data.root={deeper[0].parent}"
    text += "; add data.root=<the folder of the I3A data set>"
    folders = [file.relative_to(base).parts[:-1] for file in cells]
    if folders and (other := unusual(folders)):
        return f"{text}; for data=folder, it{other}"
    return text
