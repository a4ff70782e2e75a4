"""What lies beside the cells and is not a cell: masks, and pictures of something else."""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hep2.data.spelling import id_key, normal

log = logging.getLogger(__name__)

IMAGE_FOLDER = re.compile(r"imgs?|images?|cells?|raw|originals?|data(sets?)?")
_MASK = r"(?:(?:binary|cell|cp|cyto|nucle(?:us|i|ar)|seg|gt|roi)[\s_.-]*)?masks?"  # says it alone
_PERHAPS = (  # says it where a cell has the rest of the name
    r"seg(?:m|ment(?:ed|ation)?)?s?|labels?|gt|ground[\s_-]?truths?|annot(?:ation|ated)?s?|roi|rois"
    r"|bw|binary|outlines?|contours?|flows?|instances?|overlays?"
)
_BEHIND = re.compile(rf"(.+?)[\s_.(\[-]+(?:({_MASK})|{_PERHAPS})[)\]]?|(.*\d)(mask)")
_BEFORE = re.compile(rf"(?:({_MASK})|{_PERHAPS})[\s_.-]+(.+)|(masks?)(\d+)")
_MASK_FOLDER = re.compile(rf"(?:{_MASK})|segmentations?|ground[\s_-]?truths?")
_PERHAPS_FOLDER = re.compile(_PERHAPS)
_PICTURE = re.compile(  # of something else, where few images are called so
    r"(whole)?fields?|tables?|fig(ure)?s?|overview|montage|collage|mosaic|plots?|graph|chart|slide"
    r"|histogram|thumb(nail)?s?|preview|screenshot|legend|scale|bar|scalebar|colorbar|logo|poster"
    r"|whole|full|confusion|matrix|contact|sheet"
)
_FEW = 0.2  # share of the images


@dataclass(frozen=True)
class Found:
    """Image files below a folder, told apart by their names."""

    cells: list[Path]
    masks: dict[Path, Path]  # of a cell, by the cell's file
    no_cells: dict[Path, str]  # what else was found, and why it is no cell


def told_apart(files: Iterable[Path], root: Path) -> Found:
    """Tell cells from masks and other pictures by the names of files and of folders below `root`.

    A mask is called so (00001_Mask.png, mask_00001.png, 00001_cp_masks.tif, masks/00001.png), or
    has the name of a cell and a word beside it that may mean a mask (00001_seg.png, labels/1.png).
    """
    plain, marked = list[Path](), list[tuple[Path, str, bool]]()
    for file in files:
        base, sure = _unmasked(file, root)
        if base is None:
            plain.append(file)
        else:
            marked.append((file, base, sure))
    at = defaultdict(list)
    for file in plain:
        at[_home(file, root, id_key(file.name))].append(file)
    masks, no_cells = dict[Path, Path](), dict[Path, str]()
    for file, base, sure in marked:
        owners = at.get(_home(file, root, id_key(base)), [])
        if not owners and not sure:
            plain.append(file)
            continue
        no_cells[file] = "a mask"
        if len(owners) == 1 and owners[0] not in masks:
            masks[owners[0]] = file
    pictures = [file for file in plain if _of_something_else(file)]
    if len(pictures) <= _FEW * len(plain):
        no_cells |= dict.fromkeys(pictures, "a picture of something else")
    return Found(sorted(file for file in plain if file not in no_cells), masks, no_cells)


def _of_something_else(file: Path) -> bool:
    words = re.findall(r"[^\W\d_]+", normal(file.stem))
    return bool(words) and all(map(_PICTURE.fullmatch, words))


def _unmasked(file: Path, root: Path) -> tuple[str | None, bool]:
    """The name without what says mask, or None; and whether that is sure without its cell."""
    stem = normal(file.stem)
    if re.fullmatch(_MASK, stem):
        return "", True
    for pattern, rest, sure in ((_BEHIND, 1, 2), (_BEFORE, 2, 1)):
        if match := pattern.fullmatch(stem):
            other = match[3 if rest == 1 else 4]
            return match[rest] or other, bool(match[sure] or other)
    folders = _folders(file, root)
    if any(_MASK_FOLDER.fullmatch(part) for part in folders):
        return file.name, True
    if any(_PERHAPS_FOLDER.fullmatch(part) for part in folders):
        return file.name, False
    return None, False


def _folders(file: Path, root: Path) -> list[str]:
    return [normal(part) for part in Path(os.path.relpath(file, root)).parts[:-1]]


def _home(file: Path, root: Path, name: str) -> tuple[str, ...]:
    """Where a cell is at home: its name and its folders, but those that say images or masks."""
    return name, *(part for part in _folders(file, root) if not IMAGE_FOLDER.fullmatch(part)
                   and not _MASK_FOLDER.fullmatch(part)
                   and not _PERHAPS_FOLDER.fullmatch(part))  # fmt: skip


def say_left_out(found: Found, where: Path) -> None:
    """Say how many files are no cells; of pictures of something else, with a warning."""
    others = [str(file.relative_to(where)) for file, why in found.no_cells.items()
              if why != "a mask"]  # fmt: skip
    if masks := len(found.no_cells) - len(others):
        log.info("%s: %d masks beside %d cells are left out", where, masks, len(found.cells))
    if others:
        text = f"{where}: {len(others)} pictures of something else are left out as no cells:"
        log.warning("%s", f"{text} {', '.join(others[:5])}")
