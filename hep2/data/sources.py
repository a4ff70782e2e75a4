"""The data sets that `data=<name>` chooses from; conf/data/ says where to get each."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from hep2.data.i3a import CLASSES as I3A_CLASSES
from hep2.data.i3a import contest_rows, image_files
from hep2.data.image_source import ImageSource, image_source
from hep2.data.images import Pixels
from hep2.data.manifest import Listing, Row, read_manifest
from hep2.data.store_folder import Annotations
from hep2.errors import HEp2Error

# The five patterns of SNPHEp-2, in the order of every table about it.
PAPER_CLASSES = ("homogeneous", "coarse_speckled", "fine_speckled", "nucleolar", "centromere")

# "There are 1,884 cellular images in the dataset, all of them extracted from the 40 different
# specimen images ... there are 905 and 979 cell images for the training and testing sets"
# (Vununu, Lee and Kwon, on the set of Wiliem et al. 2013).
SNPHEP2_FIGURES = {"cells": 1884, "specimens": 40, "training cells": 905, "test cells": 979}


def i3a(root: str | None, name: str = "i3a") -> ImageSource:
    """I3A contest, Task 1: see `hep2.data.i3a.contest_rows` for the folder's form.

    A cell's ID is its image ID as the CSV writes it (of the public copy without CSV: the file's
    name without suffix).
    """
    folder_path = _existing(root, "i3a")
    return image_source(name, folder_path, contest_rows(folder_path), I3A_CLASSES)


def snphep2(root: str | None, manifest: str = "manifest.csv", name: str = "snphep2") -> ImageSource:
    """SNPHEp-2 as a manifest with pools; warns where its figures are not the published ones."""
    folder_path = _existing(root, "snphep2")
    listing = read_manifest(folder_path / manifest, folder_path)
    _compare_with_published(listing)
    return image_source(name, folder_path, listing, PAPER_CLASSES)


def folder(root: str | None, name: str = "folder") -> ImageSource:
    """Images in `<label>/<specimen>/<image>`; a cell's ID is this path."""
    folder_path = _existing(root, "folder")
    listing = Listing([], [])
    for file in image_files(folder_path):
        parts = file.relative_to(folder_path).parts
        identity = "/".join(parts)
        if len(parts) == 3:
            listing.rows.append(Row(identity, parts[0], parts[1], "", file))
        else:
            listing.problems.append(f"{identity}: not in <label>/<specimen>/; move it there")
    if not listing.rows and not listing.problems:
        raise HEp2Error(f"{folder_path} holds no image; it must hold <label>/<specimen>/<image>")
    return image_source(name, folder_path, listing)


def manifest(
    root: str | None,
    manifest: str = "manifest.csv",
    allow_outside: bool = False,
    name: str = "manifest",
) -> ImageSource:
    """Any images, listed in a CSV `image,label,specimen[,pool]`.

    Args:
        root: the folder that the CSV's paths are relative to, or the CSV itself (then its folder).
        manifest: the CSV, relative to the root or absolute.
        allow_outside: accept images outside the root.
        name: the data set's name.
    """
    path = _existing(root, "manifest")
    csv_file, base = (path, path.parent) if path.is_file() else (path / manifest, path)
    return image_source(name, base, read_manifest(csv_file, base, allow_outside))


def synthetic(
    cells: int = 1884, specimens: int = 40, seed: int = 0, name: str = "synthetic"
) -> "SyntheticSource":
    """Simulated cells: see `hep2.data.synthetic.simulate`."""
    return SyntheticSource(name, cells, specimens, seed)


@dataclass(frozen=True)
class SyntheticSource:
    """The simulator as a source; it simulates at the size that is asked for."""

    name: str
    cells: int
    specimens: int
    seed: int
    synthetic: bool = True
    classes: tuple[str, ...] = PAPER_CLASSES

    def fingerprint(self) -> str:
        """Changes with the parameters, the simulator's version and NumPy's random streams."""
        from hep2.data.synthetic import VERSION

        return repr((self.cells, self.specimens, self.seed, VERSION, np.__version__))

    def read(self, size: int, channel: str) -> tuple[Annotations, Iterable[Pixels]]:
        """Simulate; the channel says nothing here, as the images are grey."""
        from hep2.data.synthetic import annotations, photographs

        batches = photographs(self.cells, self.specimens, size, self.seed)
        first = next(batches)  # a number that cannot be met is refused here
        listed = (column.tolist() for column in annotations(self.cells, self.specimens, self.seed))
        return Annotations(*listed), (image for batch in chain([first], batches) for image in batch)


def _existing(root: str | None, data: str) -> Path:
    if root is None:
        raise HEp2Error(f"data={data} needs the folder of the data set: add data.root=<folder>")
    path = Path(root).expanduser().absolute()
    if not path.is_dir() and not (data == "manifest" and path.is_file()):
        raise HEp2Error(f"data.root={root}: no such folder; give the folder of the data set")
    return path


def _compare_with_published(listing: Listing) -> None:
    rows = listing.rows
    found = {
        "cells": len(rows),
        "specimens": len({row.specimen for row in rows}),
        "training cells": sum(row.pool == "train" for row in rows),
        "test cells": sum(row.pool == "test" for row in rows),
    }
    differing = [
        f"{found[what]} {what} (published: {published})"
        for what, published in SNPHEP2_FIGURES.items()
        if found[what] != published
    ]
    if differing:
        warnings.warn(
            f"snphep2: this copy holds {', '.join(differing)}; results on it are not comparable"
            " with published ones",
            stacklevel=3,
        )
