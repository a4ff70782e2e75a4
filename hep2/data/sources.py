"""The sources of `data=<name>`, each a `Source`; conf/data/ says where to get the data sets."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from hep2.data.cells import Row
from hep2.data.image_source import ImageSource, image_source
from hep2.data.images import Pixels, image_files
from hep2.data.manifest import read_csv, read_manifest
from hep2.data.simulator import cells as simulator
from hep2.errors import HEp2Error

log = logging.getLogger(__name__)

I3A_CLASSES = ("Homogeneous", "Speckled", "Nucleolar", "Centromere", "NuMem", "Golgi")
LABELS, SPECIMENS = "gt_training.csv", "specimens.csv"
POOL_FOLDERS = {"tra": "train", "val": "val", "tes": "test"}
PUBLIC_SPLIT = {"train": 8701, "val": 2175, "test": 2720}  # george-chou/HEp-2_cell_classification

# The five patterns of SNPHEp-2, in the order of every table about it.
PAPER_CLASSES = ("homogeneous", "coarse_speckled", "fine_speckled", "nucleolar", "centromere")

# "There are 1,884 cellular images in the dataset, all of them extracted from the 40 different
# specimen images ... there are 905 and 979 cell images for the training and testing sets"
# (Vununu, Lee and Kwon, on the set of Wiliem et al. 2013).
SNPHEP2_COUNTS = {"cells": 1884, "specimens": 40, "training cells": 905, "test cells": 979}

Files = Mapping[str, list[Path]]  # by the image ID without its leading zeros


def i3a(root: str | None, name: str = "i3a") -> ImageSource:
    """I3A contest, Task 1.

    Labels come from gt_training.csv (`Image ID,Image class`) or, without it, from the folders
    tra/val/tes/<class>/. Images are named by their ID, with or without leading zeros, anywhere
    below the root; those below tra, val or tes belong to that pool. specimens.csv
    (`Image ID,Specimen`) is optional: without it the specimens are unknown, all empty. A cell's ID
    is its image ID as the CSV writes it (without a CSV: the file's name without suffix).

    Raises:
        HEp2Error: the folder has neither form, or a CSV cannot be read.
    """
    base, problems = _existing(root, "i3a"), list[str]()
    files = defaultdict(list)
    for file in image_files(base):
        files[_number(file.stem)].append(file)
    specimens = _specimens(base / SPECIMENS, problems)
    if (base / LABELS).is_file():
        rows = list(_labelled_by_csv(base, files, specimens, problems))
    elif all((base / folder).is_dir() for folder in POOL_FOLDERS):
        rows = list(_labelled_by_folder(base, files, specimens, problems))
    else:
        raise HEp2Error(
            f"{base} has neither {LABELS} nor the folders tra, val and tes;"
            " add data.root=<the folder of the I3A data set>"
        )
    pools = Counter(row.pool for row in rows)
    counts = [pools[pool] for pool in PUBLIC_SPLIT]
    if any(counts) and counts != list(PUBLIC_SPLIT.values()):
        here, there = ("/".join(map(str, split)) for split in (counts, PUBLIC_SPLIT.values()))
        log.warning("i3a: train/val/test hold %s cells here, %s in the public copy", here, there)
    return image_source(name, base, rows, problems, I3A_CLASSES)


def snphep2(root: str | None, manifest: str = "manifest.csv", name: str = "snphep2") -> ImageSource:
    """SNPHEp-2 as a manifest with pools; warns where its counts are not the published ones."""
    base, problems = _existing(root, "snphep2"), list[str]()
    rows = read_manifest(base / manifest, base, problems)
    pools = Counter(row.pool for row in rows)
    counts = (len(rows), len({row.specimen for row in rows}), pools["train"], pools["test"])
    differing = [
        f"{count} {what} (published: {published})"
        for count, (what, published) in zip(counts, SNPHEP2_COUNTS.items(), strict=True)
        if count != published
    ]
    if differing:
        log.warning(
            "snphep2: this copy holds %s; results on it are not comparable with published ones",
            ", ".join(differing),
        )
    return image_source(name, base, rows, problems, PAPER_CLASSES)


def folder(root: str | None, name: str = "folder") -> ImageSource:
    """Images in `<label>/<specimen>/<image>`; a cell's ID is this path."""
    base, problems, rows = _existing(root, "folder"), list[str](), list[Row]()
    for file in image_files(base):
        parts = file.relative_to(base).parts
        identity = "/".join(parts)
        if len(parts) == 3:
            rows.append(Row(identity, parts[0], parts[1], "", file))
        else:
            problems.append(f"{identity}: not in <label>/<specimen>/; move it there")
    if not rows and not problems:
        raise HEp2Error(f"{base} holds no image; it must hold <label>/<specimen>/<image>")
    return image_source(name, base, rows, problems)


def manifest(
    root: str | None,
    manifest: str = "manifest.csv",
    allow_outside: bool = False,
    name: str = "manifest",
) -> ImageSource:
    """Any images, listed in a CSV `image,label,specimen[,pool]`: see `read_manifest`.

    Args:
        root: the folder that the CSV's paths are relative to, or the CSV itself (then its folder).
        manifest: the CSV, relative to the root or absolute.
        allow_outside: accept images outside the root.
        name: of the data set.
    """
    path, problems = _existing(root, "manifest"), list[str]()
    csv_file, base = (path, path.parent) if path.is_file() else (path / manifest, path)
    rows = read_manifest(csv_file, base, problems, allow_outside)
    return image_source(name, base, rows, problems)


@dataclass(frozen=True)
class SyntheticSource:
    """Simulated cells (see `hep2.data.simulator.cells.simulate`), at the size that is asked for."""

    cells: int = 1884
    specimens: int = 40
    seed: int = 0
    name: str = "synthetic"
    synthetic: bool = True
    classes: tuple[str, ...] = PAPER_CLASSES

    @property
    def rows(self) -> list[Row]:
        """Simulated cells, without an image."""
        columns = simulator.annotations(self.cells, self.specimens, self.seed)
        return [Row(*cell) for cell in zip(*(column.tolist() for column in columns), strict=True)]

    def fingerprint(self) -> str:
        """Changes with the parameters, the simulator's version and NumPy's random streams."""
        return repr((self.cells, self.specimens, self.seed, simulator.VERSION, np.__version__))

    def full_scale(self, *_: object) -> None:
        """They have 8 bits."""

    def images(self, size: int, *_: object) -> Iterator[Pixels]:
        """Simulate; only the size matters here, as there are no files."""
        photographs = simulator.photographs(self.cells, self.specimens, size, self.seed)
        return chain.from_iterable(photographs)


synthetic = SyntheticSource  # by this name conf/data/synthetic.yaml asks for it


def _existing(root: str | None, data: str) -> Path:
    if root is None:
        raise HEp2Error(f"data={data} needs the folder of the data set: add data.root=<folder>")
    path = Path(root).expanduser().absolute()
    if not path.is_dir() and not (data == "manifest" and path.is_file()):
        raise HEp2Error(f"data.root={root}: no such folder; give the folder of the data set")
    return path


def _number(identity: str) -> str:
    """An image ID without its leading zeros."""
    return str(int(identity)) if identity.isdecimal() else identity


def _specimens(path: Path, problems: list[str]) -> dict[str, str]:
    specimens: dict[str, str] = {}
    if not path.is_file():
        return specimens
    for number, cell in read_csv(path, ("Image ID", "Specimen"), problems):
        identity, specimen = cell["Image ID"], cell["Specimen"]
        first = specimens.setdefault(_number(identity), specimen)
        if first != specimen:
            problems.append(
                f"{path.name} row {number} ({identity}): specimen '{specimen}', but '{first}' above"
            )
    return specimens


def _labelled_by_csv(
    root: Path, files: Files, specimens: Mapping[str, str], problems: list[str]
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
            folders = found[0].relative_to(root).parts[:-1]
            pool = next((POOL_FOLDERS[part] for part in folders if part in POOL_FOLDERS), "")
            yield Row(identity, label, specimens.get(_number(identity), ""), pool, found[0], origin)


def _labelled_by_folder(
    root: Path, files: Files, specimens: Mapping[str, str], problems: list[str]
) -> Iterator[Row]:
    for number, found in files.items():
        for file in found:
            parts = file.relative_to(root).parts
            pool, origin = POOL_FOLDERS.get(parts[0]), "/".join(parts)
            if pool and len(parts) == 3:
                yield Row(file.stem, parts[1], specimens.get(number, ""), pool, file, origin)
            elif pool:
                problems.append(f"{origin}: not in {parts[0]}/<class>/; move it there")
