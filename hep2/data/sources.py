"""The sources of `data=<name>`, each a `Source`; conf/data/ says where to get the data sets."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from hep2.data import contest
from hep2.data.cells import Row
from hep2.data.foreign_paths import Finder
from hep2.data.image_source import ImageSource, image_source
from hep2.data.images import Pixels, image_files
from hep2.data.levels import levels
from hep2.data.manifest import read_csv, read_manifest
from hep2.data.mivia import CLASSES, mivia_rows
from hep2.data.no_cells import say_left_out, told_apart
from hep2.data.simulator import cells as simulator
from hep2.data.simulator.mixed import Mixed, mixed_photographs, mixed_specimens
from hep2.data.spelling import id_key, pool_meant, said
from hep2.errors import HEp2Error

log = logging.getLogger(__name__)

I3A_CLASSES = ("Homogeneous", "Speckled", "Nucleolar", "Centromere", "NuMem", "Golgi")
PUBLIC_SPLIT = {"train": 8701, "val": 2175, "test": 2720}  # george-chou/HEp-2_cell_classification

# The five patterns of SNPHEp-2, in the order of every table about it.
PAPER_CLASSES = ("homogeneous", "coarse_speckled", "fine_speckled", "nucleolar", "centromere")

# "There are 1,884 cellular images in the dataset, all of them extracted from the 40 different
# specimen images ... there are 905 and 979 cell images for the training and testing sets"
# (Vununu, Lee and Kwon, on the set of Wiliem et al. 2013).
SNPHEP2_COUNTS = {"cells": 1884, "specimens": 40, "training cells": 905, "test cells": 979}

MIVIA_COUNTS = (1455, 28)  # cells, fields: 721 to train and 734 to test (Foggia et al. 2013)


def i3a(root: str | None, name: str = "i3a", merge_spellings: bool = False) -> ImageSource:
    """I3A contest, Task 1.

    Labels come from gt_training.csv (`Image ID,Image class[,Intensity]`) or, without it, from the
    folders tra/val/tes/<class>/. Images are named by their ID, with or without leading zeros,
    anywhere below the root; those below tra, val or tes belong to that pool. Masks, NNNNN_Mask.png
    beside NNNNN.png, are told apart. specimens.csv (`Image ID,Specimen`) is optional: without it
    the specimens are unknown, all empty. A cell's ID is its image ID as the CSV writes it (without
    a CSV: the file's name without suffix).

    Raises:
        HEp2Error: the folder has neither form, or a CSV cannot be read.
    """
    base, problems = _existing(root, "i3a"), list[str]()
    found, files = told_apart(image_files(base), base), defaultdict(list)
    for file in found.cells:
        files[id_key(file.name)].append(file)
    specimens = contest.read_specimens(contest.table(base, contest.SPECIMENS), problems)
    where = contest.LABELS
    if (labels := contest.table(base, where)).is_file():
        rows = list(contest.labelled_by_csv(labels, files, specimens, problems))
    elif all((base / folder).is_dir() for folder in contest.POOL_FOLDERS):
        rows = list(contest.labelled_by_folder(base, files, specimens, problems))
        where = "the folders"
    else:
        raise HEp2Error(contest.missing(base, found.cells))
    say_left_out(found, base)
    contest.check_meeting(rows, specimens, where, problems)
    rows = [replace(row, mask=found.masks.get(row.file, Path())) for row in rows]
    pools = Counter(row.pool for row in rows)
    counts = [pools[pool] for pool in PUBLIC_SPLIT]
    if any(counts) and counts != list(PUBLIC_SPLIT.values()):
        here, there = ("/".join(map(str, split)) for split in (counts, PUBLIC_SPLIT.values()))
        log.warning("i3a: train/val/test hold %s cells here, %s in the public copy", here, there)
    return image_source(name, base, rows, problems, I3A_CLASSES, merge_spellings)


def snphep2(
    root: str | None,
    manifest: str = "manifest.csv",
    name: str = "snphep2",
    columns: Mapping[str, str] | None = None,
    merge_spellings: bool = False,
) -> ImageSource:
    """SNPHEp-2 as a manifest with pools; warns where its counts are not the published ones."""
    base, problems = _existing(root, "snphep2"), list[str]()
    rows = read_manifest(base / manifest, base, problems, columns=columns)
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
    return image_source(name, base, rows, problems, PAPER_CLASSES, merge_spellings)


def mivia(root: str | None, name: str = "mivia") -> ImageSource:
    """The MIVIA set of the ICPR 2012 contest: see `hep2.data.mivia`."""
    base, problems = _existing(root, "mivia"), list[str]()
    rows = mivia_rows(base, problems)
    counts = len(rows), len({row.specimen for row in rows})
    if counts != MIVIA_COUNTS:
        log.warning(
            "mivia: this copy holds %d cells of %d fields (published: 1455 of 28); results on it "
            "are not comparable with published ones",
            *counts,
        )
    return image_source(name, base, rows, problems, CLASSES)


def folder(
    root: str | None,
    name: str = "folder",
    layout: str | None = None,
    merge_spellings: bool = False,
) -> ImageSource:
    """Images in `<label>/<specimen>/<image>`, or in folders of another `layout`: see `levels`.

    A cell's ID is its path. Masks beside the cells are told apart.

    Raises:
        HEp2Error: the folders look like another layout, and none is stated.
    """
    base, problems, rows = _existing(root, "folder"), list[str](), list[Row]()
    found = told_apart(image_files(base), base)
    roles = levels([file.relative_to(base).parts[:-1] for file in found.cells], layout, base)
    place = "/".join(f"<{role}>" for role in roles)
    for file in found.cells:
        *folders, _ = parts = file.relative_to(base).parts
        identity = "/".join(parts)
        if len(folders) != len(roles):
            problems.append(f"{identity}: not in {place}/; move it there")
            continue
        known = dict.fromkeys(("label", "specimen", "pool"), "") | {
            role: name for role, name in zip(roles, folders, strict=True) if role != "_"
        }
        known["pool"] = pool_meant(known["pool"])
        rows.append(Row(identity, **known, file=file, mask=found.masks.get(file, Path())))
    if not rows and not problems:
        masks = f" but {len(found.no_cells)} masks" if found.no_cells else ""
        raise HEp2Error(f"{base} holds no image{masks}; it must hold {place}/<image>")
    say_left_out(found, base)
    return image_source(name, base, rows, problems, merge_spellings=merge_spellings)


def manifest(
    root: str | None,
    manifest: str = "manifest.csv",
    allow_outside: bool = False,
    name: str = "manifest",
    columns: Mapping[str, str] | None = None,
    merge_spellings: bool = False,
) -> ImageSource:
    """Any images, listed in a CSV `image,label,specimen[,pool]`: see `read_manifest`.

    Args:
        root: the folder that the CSV's paths are relative to, or the CSV itself (then its folder).
        manifest: the CSV, relative to the root or absolute.
        allow_outside: accept images outside the root.
        name: of the data set.
        columns: what the CSV calls its columns, by our names.
        merge_spellings: labels and specimens under two spellings become the commonest one.
    """
    path, problems = _existing(root, "manifest"), list[str]()
    csv_file, base = (path, path.parent) if path.is_file() else (path / manifest, path)
    if not csv_file.is_file() and (others := sorted(file.name for file in path.glob("*.csv"))):
        names = f"there is {', '.join(others[:3])}: add data.source.manifest={others[0]}"
        raise HEp2Error(f"{csv_file}: no such file, but {names}")
    rows = read_manifest(csv_file, base, problems, allow_outside, columns)
    rows = list(_without_masks(rows, base, problems))
    return image_source(name, base, rows, problems, merge_spellings=merge_spellings)


def _without_masks(rows: Sequence[Row], base: Path, problems: list[str]) -> Iterator[Row]:
    found = told_apart([row.file for row in rows], base)
    for row in rows:
        if (why := found.no_cells.get(row.file)) == "a mask":
            problems.append(f"{row}: {why}, no cell; leave it out, or name it in a column mask")
        else:
            yield row


def unlabelled(root: str) -> ImageSource:
    """The source of a folder of images, or of a CSV with the column image.

    It may have columns specimen and source; a specimen is of its source, as in the data set.

    Raises:
        HEp2Error: there is no such folder or CSV, or no image in it.
    """
    path, problems = Path(root).expanduser().absolute(), list[str]()
    if path.is_dir():
        found = told_apart(image_files(path), path)
        say_left_out(found, path)
        rows = [Row(file.relative_to(path).as_posix(), "", "", "", file) for file in found.cells]
    elif path.is_file():
        finder = Finder(path.parent)
        rows = [
            _unlabelled(cell, finder.file(cell["image"]))
            for _, cell in read_csv(path, ("image",), problems, optional=("specimen", "source"))
        ]
    else:
        raise HEp2Error(f"data.unlabelled={root}: no such folder or CSV")
    if not rows:
        raise HEp2Error(f"data.unlabelled={root}: no image in it")
    ordered = sorted({row.id: row for row in rows}.values(), key=lambda row: row.id)
    base = path if path.is_dir() else path.parent
    return ImageSource("unlabelled", base, ("",), tuple(ordered), tuple(problems))


def _unlabelled(cell: Mapping[str, str], file: Path) -> Row:
    specimen, source = (said(cell.get(name, "")) for name in ("specimen", "source"))
    whole = f"{source}/{specimen}" if source and specimen else specimen
    return Row(cell["image"], "", whole, "", file, source=source)


@dataclass(frozen=True)
class SyntheticSource:
    """Simulated cells (see `hep2.data.simulator.cells.simulate`), at the size that is asked for."""

    cells: int = 1884
    specimens: int = 40
    seed: int = 0
    name: str = "synthetic"
    synthetic: bool = True
    classes: tuple[str, ...] = PAPER_CLASSES
    mixed: Sequence[float] = ()  # shares of a second pattern: specimens of two, in the test pool

    def __post_init__(self) -> None:
        """Raise HEp2Error where the shares are no list of shares."""
        mixed_specimens(self.mixed, 1)

    @property
    def rows(self) -> list[Row]:
        """Simulated cells, without an image."""
        columns = simulator.annotations(self.cells, self.specimens, self.seed)
        cells = [*zip(*(column.tolist() for column in columns), strict=True)]
        for one in self._mixed:
            cells += [
                (f"synthetic-{len(cells) + place:06d}", label, one.name, "test")
                for place, label in enumerate(one.labels, start=1)
            ]
        return [Row(*cell) for cell in cells]

    @property
    def _mixed(self) -> list[Mixed]:
        """As large as the others are on average."""
        return mixed_specimens(self.mixed, self.cells // self.specimens)

    def fingerprint(self) -> str:
        """Changes with the parameters, the simulator's version and NumPy's random streams."""
        made = (self.cells, self.specimens, self.seed, simulator.VERSION, np.__version__)
        return repr((*made, *self.mixed))

    def full_scale(self, *_: object) -> None:
        """They have 8 bits."""

    def images(self, size: int, *_: object) -> Iterator[Pixels]:
        """Simulate; only the size matters here, as there are no files."""
        photographs = simulator.photographs(self.cells, self.specimens, size, self.seed)
        more = mixed_photographs(self._mixed, size, self.seed)
        return chain.from_iterable(chain(photographs, more))

    def masks(self, size: int) -> None:
        """None are made."""


synthetic = SyntheticSource  # by this name conf/data/synthetic.yaml asks for it


def _existing(root: str | None, data: str) -> Path:
    if root is None:
        raise HEp2Error(f"data={data} needs the folder of the data set: add data.root=<folder>")
    path = Path(root).expanduser().absolute()
    if not path.is_dir() and not (data == "manifest" and path.is_file()):
        raise HEp2Error(f"data.root={root}: no such folder; give the folder of the data set")
    return path
