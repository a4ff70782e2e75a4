"""Whole fields with labelled masks, as batches of cells: field by field, each decoded once."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hep2.data.fields import Cut, CutField, cut_field
from hep2.data.foreign_paths import Finder
from hep2.data.header import ImageError
from hep2.data.images import ahead, image_files
from hep2.data.manifest import read_csv, refuse_rows, shortened
from hep2.data.no_cells import told_apart
from hep2.data.spelling import nothing, said
from hep2.data.views import in_unit_range
from hep2.errors import HEp2Error
from hep2.prediction.cells import (
    TABLES,
    CellBatch,
    NamedImage,
    batches,
    say_masks,
    two_spellings,
)

log = logging.getLogger(__name__)

AHEAD = 8  # fields that are cut while others are being named: bounds memory
_OF_A_MASK = re.compile(r"[\s_.-]*(cp[\s_.-]*)?(masks?|labels?|seg|stardist)$", re.IGNORECASE)


@dataclass(frozen=True)
class Field(NamedImage):
    """One field; its `id` is the file's path in its folder, its `mask` the label image, if any."""


@dataclass(frozen=True, kw_only=True)
class FieldBatch(CellBatch):
    """The cells of one field."""

    field: Field
    cut: CutField | None  # None where it could not be read: the batch is then one row, the field


def find_fields(images: str | None, masks: str) -> list[Field]:
    """The fields that a path means, with their masks.

    Args:
        images: an image; a folder; or a CSV with the column image (relative to the CSV's folder)
            and, if wanted, specimen.
        masks: an image; a folder with the folders and stems of `images`, the stem followed by
            _masks, _cp_masks, _labels or nothing; or the name of the CSV's column.

    Raises:
        HEp2Error: there is no such file, no field has a mask, or rows are bad (all are named).
    """
    if images is None:
        raise HEp2Error("which fields? images=<image, folder, or CSV with the column image>")
    path = Path(images)
    if not path.exists():
        raise HEp2Error(f"images={images}: no such file or folder")
    if path.is_file() and path.suffix.lower() in TABLES:
        found = _listed(path, masks)
    elif not (other := Path(masks)).exists():
        raise HEp2Error(f"masks={masks}: no such file or folder")
    elif path.is_dir() != other.is_dir():
        raise HEp2Error(f"images={images} and masks={masks}: give two folders, or two images")
    elif path.is_file():
        found = [Field(path.name, "", path.parent, other)]
    else:
        found = _paired(path, other)
    return _with_specimens(found)


def _paired(path: Path, masks: Path) -> list[Field]:
    """The fields of a folder, each with the mask of its folder and stem."""
    within = masks.resolve()
    told = told_apart(image_files(path), path)
    found = [*told.cells, *(file for file, why in told.no_cells.items() if why != "a mask")]
    if within != path.resolve():
        found = [file for file in found if within not in file.resolve().parents]
    known: dict[tuple[str, str], list[Path]] = {}
    for file in image_files(masks):
        known.setdefault(_home(file, masks, _OF_A_MASK.sub("", file.stem)), []).append(file)
    fields = []
    for file in sorted(found):
        alike = [one for one in known.pop(_home(file, path, file.stem), []) if one != file]
        fields.append(Field(file.relative_to(path).as_posix(), "", path,
                            alike[0] if len(alike) == 1 else None))  # fmt: skip
        if len(alike) > 1:
            raise HEp2Error(f"{file} has several masks, keep one: {', '.join(map(str, alike))}")
    if not any(field.mask for field in fields):
        raise HEp2Error(
            f"masks={masks}: none of the {len(fields)} images of {path} has a mask there; a mask "
            "has the image's folder and name, or <name>_masks, <name>_cp_masks, as PNG or TIFF"
        )
    if unused := [str(file) for files in known.values() for file in files if masks != path]:
        log.warning("%s", f"{masks}: masks of no field are left out:\n{shortened(unused)}")
    return fields


def _home(file: Path, root: Path, stem: str) -> tuple[str, str]:
    return os.path.relpath(file.parent, root), stem


def _listed(path: Path, column: str) -> list[Field]:
    """The fields of a CSV."""
    fields, problems, folder = list[Field](), list[str](), path.parent
    finder = Finder(folder)
    for number, row in read_csv(path, ("image", column), problems, ("specimen",)):
        if nothing(row["image"]):
            problems.append(f"{path.name} row {number} ({row['image']}): no image is named")
            continue
        name = os.path.relpath(finder.file(row["image"]), folder)
        mask = None if nothing(row[column]) else finder.file(row[column])
        fields.append(Field(name, said(row.get("specimen", "")), folder, mask))
    problems = [*two_spellings([field.specimen for field in fields], "fields"), *problems]
    if len({field.id for field in fields}) < len(fields):
        problems.append(f"{path.name}: a field stands in several rows; keep one of them")
    refuse_rows(path, problems)
    finder.warn(path.name)
    return fields


def _with_specimens(fields: Sequence[Field]) -> list[Field]:
    """Where none is given, the field's folder is the specimen, or, if all have one, its stem."""
    if all(field.specimen for field in fields):
        return list(fields)
    several = len({Path(field.id).parent for field in fields}) > 1
    log.warning("specimens are not given: each field's %s is taken for its specimen",
                "folder" if several else "file name")  # fmt: skip
    return [
        field if field.specimen else replace(field, specimen=_default(field, several))
        for field in fields
    ]


def _default(field: Field, several: bool) -> str:
    path = Path(field.id)
    folder = path.parent.as_posix()
    return folder if several and folder != "." else path.stem


def read_batches(
    images: Sequence[NamedImage],
    size: int,
    channel: str,
    page: int | None,
    full_scale: int,
    masked: bool,
    cut: Cut,
) -> Iterator[CellBatch]:
    """Images of cells in batches, or the cells of each field. `masked`: as of `batches`."""
    reading = (size, channel, page, full_scale)
    if fields := [one for one in images if isinstance(one, Field)]:
        return field_batches(fields, *reading, cut)
    say_masks(images, masked)
    return batches(images, *reading, masked)


def field_batches(
    fields: Sequence[Field],
    size: int,
    channel: str,
    page: int | None,
    full_scale: int,
    cut: Cut,
) -> Iterator[FieldBatch]:
    """The cells of each field; while one is being named, the next are being cut."""

    def outcome(field: Field) -> CutField:
        if field.mask is None:
            raise ImageError("no mask was found")
        return cut_field(field.folder / field.id, field.mask, size, channel, page, full_scale, cut)

    for field, made in zip(fields, ahead(outcome, fields, AHEAD), strict=True):
        if isinstance(made, ImageError):
            empty = torch.empty((0, 1, size, size))
            yield FieldBatch([field], empty, [str(made)], empty, field=field, cut=None)
            continue
        named = [NamedImage(f"{field.id}#{cell.label}", field.specimen, field.folder)
                 for cell in made.cells]  # fmt: skip
        image = torch.from_numpy(in_unit_range(made.images)[:, None])
        masks = torch.from_numpy(made.masks.astype(np.float32)[:, None])
        problems = [cell.problem for cell in made.cells]
        yield FieldBatch(named, image, problems, masks, field=field, cut=made)
