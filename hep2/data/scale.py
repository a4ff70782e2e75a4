"""What value means white in images of 16 bits: cameras fill 10, 12 or 14 of them, or all.

The rule, where the files do not say it: the smallest of 255, 1023, 4095, 16383 and 65535 that no
pixel of the whole data set exceeds. Files of two scales are refused. Images of 8 bits have 255.
Dark images of 16 bits look like bright ones of 12; data.full_scale=65535 says what they are.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hep2.data.header import has_16_bits
from hep2.data.images import FULL_SCALE, ahead, check_reading, read_raw
from hep2.errors import HEp2Error

SCALES = (255, 1023, 4095, 16383, FULL_SCALE)
EXAMPLES = 3  # files that a message names of each kind


@dataclass(frozen=True)
class Measured:
    """One image."""

    bits: int  # 8 or 16
    brightest: int  # pixel of its fluorescence
    declared: int | None  # the value of white by the file's own word


def full_scale_of(
    where: str,
    files: Callable[[], Iterable[tuple[str, Path]]],
    channel: str,
    page: int | None = None,
    asked: int | None = None,
) -> int | None:
    """The value of white in the 16-bit images among some files; None where all have 8 bits.

    Files are opened for their headers alone where all have 8 bits, or where `asked` is given.

    Args:
        where: the data set, for messages.
        files: lists them, with the names that messages give them. Broken ones are passed over.
        channel: as of `read_image`.
        page: as of `read_image`.
        asked: the setting data.full_scale; None: it is found.

    Raises:
        HEp2Error: a setting is wrong (`check_reading`), or the files are of several scales.
    """
    check_reading(channel, page, asked)
    if not any(has_16_bits(file, page) for _, file in files()):
        if asked not in (None, 255):
            raise HEp2Error(
                f"{where}: data.full_scale={asked} is for images of 16 bits, and none has them: "
                "leave it out"
            )
        return None
    if asked is not None:
        return asked
    outcomes = ahead(lambda file: measure(file, channel, page), (file for _, file in files()))
    measured = {
        name: outcome
        for (name, _), outcome in zip(files(), outcomes, strict=True)
        if isinstance(outcome, Measured)
    }
    return found_scale(where, measured)


def measure(file: Path, channel: str, page: int | None) -> Measured:
    """The brightest pixel of an image, and what it says of its scale.

    A file of 16 bits that names fewer has its values at the upper end, as PNG asks for, or at the
    lower.

    Raises:
        ImageError: as of `read_image`.
    """
    pixels, header = read_raw(file, channel, page)
    brightest, bits = int(pixels.max()), header.significant
    if not header.wide:
        return Measured(8, brightest, 255)
    if bits is None or not 8 <= bits <= 16:
        return Measured(16, brightest, None)
    declared = (1 << bits) - 1
    upper = brightest > declared or (brightest > 0 and not (pixels % (1 << (16 - bits))).any())
    return Measured(16, brightest, FULL_SCALE if upper else declared)


def found_scale(where: str, measured: Mapping[str, Measured]) -> int:
    """The value of white in the 16-bit images of a set; those of 8 bits go with 65535.

    Raises:
        HEp2Error: they are of several scales; examples of each are named.
    """
    wide = {name: one for name, one in measured.items() if one.bits == 16}
    kinds = _kinds({name: one.brightest for name, one in wide.items() if one.declared is None})
    for name, one in wide.items():
        if one.declared is not None:
            kinds.setdefault(one.declared, []).append(name)
    eight = [name for name in measured if name not in wide]
    if len(kinds) > 1 or (eight and kinds.keys() - {FULL_SCALE}):
        told = {f"a full scale of {scale}": kinds[scale] for scale in sorted(kinds)}
        told = {"8 bits": eight} | told if eight else told
        listed = "\n".join(
            f"  {kind}: {len(names)} images, e.g. {', '.join(names[:EXAMPLES])}"
            for kind, names in told.items()
        )
        raise HEp2Error(
            f"{where}: images of different scales; bring them to one, or leave one kind out:\n"
            f"{listed}\nIf those of 16 bits are of one kind all the same, say so with "
            f"data.full_scale=<number>, e.g. {max(kinds)}."
        )
    return next(iter(kinds), FULL_SCALE)


def _kinds(brightest: Mapping[str, int]) -> dict[int, list[str]]:
    """Files by their scale: one, or two where they fall into two groups that are far apart."""
    lit = {name: value for name, value in brightest.items() if value}  # black says nothing
    if not lit:
        return {FULL_SCALE: list(brightest)} if brightest else {}
    ordered = sorted(lit.values())
    highest = next(scale for scale in SCALES if ordered[-1] <= scale)
    for scale in SCALES[: SCALES.index(highest)]:
        if _two_groups(ordered, scale):
            lower = [name for name, value in lit.items() if value <= scale]
            return {scale: lower, highest: [name for name, value in lit.items() if value > scale]}
    return {highest: list(brightest)}


def _two_groups(brightest: Sequence[int], scale: int) -> bool:
    """Whether images up to `scale` are of another scale than the others, not darker cells.

    So it is where several are saturated at `scale`, or where they fill it and leave the widest gap
    of all between them and the others: of a factor 2, or 4 where fewer than a tenth of the images
    stand on one side.

    Args:
        brightest: the brightest pixel of each image, ascending.
        scale: less than the last of them.
    """
    below = bisect_right(brightest, scale)
    if below == 0:
        return False
    gaps = [high / low for low, high in pairwise(brightest)]
    gap, side = gaps[below - 1], min(below, len(brightest) - below)
    wide = gap == max(gaps) and gap >= (4 if 10 * side < len(brightest) else 2)
    return brightest.count(scale) > 1 or (wide and brightest[below - 1] > scale / 2)
