"""What the levels of a folder of images mean: as stated, or as usual if nothing contradicts."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from hep2.data.no_cells import IMAGE_FOLDER
from hep2.data.spelling import POOLS, label_key, normal, pool_meant
from hep2.errors import HEp2Error

ROLES = ("label", "specimen", "pool", "source", "intensity", "_")
USUAL = ("label", "specimen")
_FOLD = re.compile(r"(k?fold|cv|split|rep(eat)?|run)[\s_.-]*\d+")
_PATTERNS = frozenset(map(label_key, (
    "homogeneous", "speckled", "fine speckled", "coarse speckled", "dense fine speckled",
    "nucleolar", "centromere", "centromeric", "golgi", "numem", "nuclear membrane", "cytoplasmic",
    "cytoplasmatic", "mitotic spindle", "nuclear dots", "negative", "positive",
)))  # fmt: skip

Folders = tuple[str, ...]


def levels(files: Sequence[Folders], layout: str | None, root: Path) -> Folders:
    """The roles of the folders above an image, from the root down.

    Args:
        files: the folders of each image, below the root.
        layout: roles, joined by slashes, as the user states them; `_` means nothing. None: the
            usual ones, label/specimen, unless the folders look otherwise.
        root: of them, for messages.

    Raises:
        HEp2Error: the layout cannot be read, or the folders look otherwise.
    """
    if layout is None:
        if files and (complaint := unusual(files)):
            raise HEp2Error(f"{root}{complaint}")
        return USUAL
    roles = tuple(part.strip("<> ") for part in str(layout).strip("/").split("/"))
    named = [role for role in roles if role != "_"]
    if "label" not in named or len(set(named)) < len(named) or not set(named) <= set(ROLES):
        raise HEp2Error(
            f"data.source.layout={layout} must name each level of folders once, label among them:"
            f" {', '.join(ROLES)} (nothing), e.g. pool/label"
        )
    return roles


def unusual(files: Sequence[Folders]) -> str:
    """What speaks against <label>/<specimen>/<image>, with the setting that reads it; or ""."""
    depth = Counter(map(len, files)).most_common(1)[0][0]
    whole = [folders for folders in files if len(folders) == depth]
    names = [sorted({folders[level] for folders in whole}) for level in range(depth)]
    roles = [_role(level) for level in names]
    for level, only in enumerate(names):  # one name for all tells nothing apart
        if len(only) == 1 and (depth > len(USUAL) or (level and len(names[0]) > 1)):
            roles[level] = roles[level] or "_"
    open_levels = [level for level, role in enumerate(roles) if not role]
    if len(open_levels) == 2 and (crossed := _crossed(whole, names, *open_levels)):
        return crossed
    for level, role in zip(open_levels, USUAL, strict=False):
        roles[level] = role
    if tuple(roles) == USUAL:
        return ""
    example = "/".join((*whole[0], "<image>"))
    if "label" not in roles:
        return (
            f" holds {example}, not <label>/<specimen>/<image>: no folder names a label; list the"
            " images with their labels in a CSV and use data=manifest"
        )
    if not all(roles):
        return (
            f" holds {example}, not <label>/<specimen>/<image>: say what the {depth} levels of"
            " folders are, e.g. data.source.layout=label/specimen/_ (_: nothing)"
        )
    shape = "/".join(names[level][0] if role == "_" and len(names[level]) == 1 else f"<{role}>"
                     for level, role in enumerate(roles))  # fmt: skip
    unknown = "" if "specimen" in roles else (
        " (specimens are then unknown, which only protocols marked leaky can do with)"
    )  # fmt: skip
    seen = ", ".join(name for level, role in enumerate(roles) if role not in USUAL
                     for name in names[level][:4])  # fmt: skip
    return (
        f" holds {example}: folders {seen or names[0][0]} make it"
        f" {shape.replace('<_>', '<fold>')}/<image>, not <label>/<specimen>/<image>;"
        f" data.source.layout={'/'.join(roles)} reads it{unknown}"
    )


def _role(names: Sequence[str]) -> str:
    """The role of a level that its names give away: "pool", "_" or ""."""
    words = {normal(name) for name in names}
    if all(pool_meant(word) in POOLS for word in words):
        return "pool"
    return (
        "_" if all(map(IMAGE_FOLDER.fullmatch, words)) or all(map(_FOLD.fullmatch, words)) else ""
    )


def _crossed(files: Sequence[Folders], names: Sequence[Sequence[str]], one: int, two: int) -> str:
    """What is said where specimens seem to stand above labels, or every one under every label."""
    above: dict[str, set[str]] = defaultdict(set)
    for folders in files:
        above[folders[two]].add(folders[one])
    patterns = [{label_key(name) for name in names[level]} <= _PATTERNS for level in (one, two)]
    shared = len(names[one]) > 1 and all(len(firsts) > 1 for firsts in above.values())
    if not shared and patterns != [False, True]:
        return ""
    first, second = (", ".join(names[level][:3]) for level in (one, two))
    depth = len(files[0])
    roles = ["_"] * depth
    roles[one], roles[two] = "specimen", "label"
    turned = "/".join(roles)
    roles[one], roles[two] = "label", "specimen"
    return (
        f" holds folders {first} ... and in them {second} ..., each of these under several of"
        " those: not <label>/<specimen>/<image>. If labels stand below specimens, add"
        f" data.source.layout={turned}; if specimens are numbered anew under every label, give each"
        " a name of its own; if they really have several labels, add"
        f" data.source.layout={'/'.join(roles)}"
    )
