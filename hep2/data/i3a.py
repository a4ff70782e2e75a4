"""The folders in which the I3A contest's Task 1 comes: as shipped, or as the public copy."""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from hep2.data.csv_files import read_csv
from hep2.data.images import SUFFIXES
from hep2.data.manifest import Listing, Row
from hep2.errors import HEp2Error

CLASSES = ("Homogeneous", "Speckled", "Nucleolar", "Centromere", "NuMem", "Golgi")
LABELS, SPECIMENS = "gt_training.csv", "specimens.csv"
POOL_FOLDERS = {"tra": "train", "val": "val", "tes": "test"}
PUBLIC_SPLIT = {"train": 8701, "val": 2175, "test": 2720}  # george-chou/HEp-2_cell_classification


def contest_rows(root: Path) -> Listing:
    """The cells of a contest folder.

    Labels come from gt_training.csv (`Image ID,Image class`) or, without it, from the folders
    tra/val/tes/<class>/. Images are named by their ID, with or without leading zeros, anywhere
    below the root; those below tra, val or tes belong to that pool. specimens.csv
    (`Image ID,Specimen`) is optional: without it the specimens are unknown, all empty.

    Raises:
        HEp2Error: the folder has neither form, or a CSV cannot be read.
    """
    problems: list[str] = []
    files = _files_by_number(root)
    specimens = _specimens(root / SPECIMENS, problems)
    if (root / LABELS).is_file():
        listing = Listing(list(_labelled_by_csv(root, files, specimens, problems)), problems)
    elif all((root / folder).is_dir() for folder in POOL_FOLDERS):
        listing = Listing(list(_labelled_by_folder(root, files, specimens, problems)), problems)
    else:
        raise HEp2Error(
            f"{root} has neither {LABELS} nor the folders tra, val and tes;"
            " add data.root=<the folder of the I3A data set>"
        )
    _compare_with_public_split(listing)
    return listing


def image_files(root: Path) -> Iterator[Path]:
    """All image files below a folder, links followed, hidden files and folders left out."""
    seen = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above would never end
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(folder, name)


def _number(identity: str) -> str:
    """An image ID without its leading zeros."""
    return str(int(identity)) if identity.isdecimal() else identity


def _files_by_number(root: Path) -> Mapping[str, list[Path]]:
    files = defaultdict(list)
    for file in image_files(root):
        files[_number(file.stem)].append(file)
    return dict(files)


def _specimens(path: Path, problems: list[str]) -> Mapping[str, str]:
    if not path.is_file():
        return {}
    specimens: dict[str, str] = {}
    for number, cell in read_csv(path, ("Image ID", "Specimen"), problems):
        identity, specimen = cell["Image ID"], cell["Specimen"]
        first = specimens.setdefault(_number(identity), specimen)
        if first != specimen:
            problems.append(
                f"{path.name} row {number} ({identity}): specimen '{specimen}', but '{first}' above"
            )
    return specimens


def _labelled_by_csv(
    root: Path,
    files: Mapping[str, list[Path]],
    specimens: Mapping[str, str],
    problems: list[str],
) -> Iterator[Row]:
    for number, cell in read_csv(root / LABELS, ("Image ID", "Image class"), problems):
        identity, label = cell["Image ID"], cell["Image class"]
        origin = f"{LABELS} row {number}"
        found = files.get(_number(identity), [])
        if not identity or not label:
            problems.append(f"{origin} ({identity}): the image ID or the class is empty")
        elif len(found) > 1:
            names = ", ".join(str(file.relative_to(root)) for file in found)
            problems.append(f"{origin} ({identity}): more than one image has this ID: {names}")
        elif not found:
            problems.append(f"{origin} ({identity}): missing file: no image of this name in {root}")
        else:
            specimen = specimens.get(_number(identity), "")
            yield Row(identity, label, specimen, _pool(found[0], root), found[0], origin)


def _labelled_by_folder(
    root: Path,
    files: Mapping[str, list[Path]],
    specimens: Mapping[str, str],
    problems: list[str],
) -> Iterator[Row]:
    for number, found in files.items():
        for file in found:
            parts = file.relative_to(root).parts
            if parts[0] not in POOL_FOLDERS:
                continue
            if len(parts) == 3:
                pool = POOL_FOLDERS[parts[0]]
                specimen = specimens.get(number, "")
                yield Row(file.stem, parts[1], specimen, pool, file, "/".join(parts))
            else:
                problems.append(f"{'/'.join(parts)}: not in {parts[0]}/<class>/; move it there")


def _pool(file: Path, root: Path) -> str:
    parts = file.relative_to(root).parts[:-1]
    return next((POOL_FOLDERS[part] for part in parts if part in POOL_FOLDERS), "")


def _compare_with_public_split(listing: Listing) -> None:
    counts = Counter(row.pool for row in listing.rows)
    found = {pool: counts[pool] for pool in PUBLIC_SPLIT}
    if any(found.values()) and found != PUBLIC_SPLIT:
        figures = "/".join(str(count) for count in found.values())
        published = "/".join(str(count) for count in PUBLIC_SPLIT.values())
        warnings.warn(
            f"i3a: train/val/test hold {figures} cells here, {published} in the public copy",
            stacklevel=3,
        )
