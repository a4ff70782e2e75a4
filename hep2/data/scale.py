"""What value means white in images of 16 bits: cameras fill 10, 12 or 14 of them, or all.

The rule, where the files do not say it: the smallest of 255, 1023, 4095, 16383 and 65535 that no
pixel of the whole data set exceeds. Files of two scales are refused. Images of 8 bits have 255.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hep2.data.header import ImageError, has_16_bits
from hep2.data.images import FULL_SCALE, ahead, check_reading, read_raw
from hep2.errors import HEp2Error

SCALES = (255, 1023, 4095, 16383, FULL_SCALE)
EXAMPLES = 3  # files that a message names of each kind


@dataclass(frozen=True)
class Measured:
    """One image of 16 bits."""

    brightest: int  # pixel of its fluorescence
    declared: int | None  # the value of white by the file's own word


def full_scale_of(
    where: str,
    files: Iterable[tuple[str, Path]],
    channel: str,
    page: int | None = None,
    asked: int | None = None,
) -> int | None:
    """The value of white in the 16-bit images among some files; None where all have 8 bits.

    Args:
        where: the data set, for messages.
        files: with the names that messages give them. Broken ones are passed over.
        channel: as of `read_image`.
        page: as of `read_image`.
        asked: the setting data.full_scale; None: it is found.

    Raises:
        HEp2Error: a setting is wrong (`check_reading`), or the files are of several scales.
    """
    check_reading(channel, page, asked)
    wide, eight = list[tuple[str, Path]](), list[str]()
    for name, file in files:
        if has_16_bits(file, page):
            wide.append((name, file))
        else:
            eight.append(name)
    if not wide:
        if asked not in (None, 255):
            raise HEp2Error(
                f"{where}: data.full_scale={asked} is for images of 16 bits, and all have 8: "
                "leave it out"
            )
        return None
    if asked is not None:
        return asked
    outcomes = ahead(lambda file: measure(file, channel, page), (file for _, file in wide))
    measured = {
        name: outcome
        for (name, _), outcome in zip(wide, outcomes, strict=True)
        if not isinstance(outcome, ImageError)
    }
    return found_scale(where, measured, eight)


def measure(file: Path, channel: str, page: int | None) -> Measured:
    """The brightest pixel of an image of 16 bits, and what it says of its scale.

    A file that names fewer bits has its values at the upper end, as PNG asks for, or at the lower.

    Raises:
        ImageError: as of `read_image`.
    """
    pixels, header = read_raw(file, channel, page)
    brightest, bits = int(pixels.max()), header.significant
    if bits is None or not 8 <= bits <= 16:
        return Measured(brightest, None)
    declared = (1 << bits) - 1
    upper = brightest > declared or (brightest > 0 and not (pixels % (1 << (16 - bits))).any())
    return Measured(brightest, FULL_SCALE if upper else declared)


def found_scale(where: str, measured: Mapping[str, Measured], eight: Sequence[str]) -> int:
    """The value of white in a set of 16-bit images, beside images of 8 bits.

    Raises:
        HEp2Error: they are of several scales; examples of each are named.
    """
    open_ones = {n: one.brightest for n, one in measured.items() if one.declared is None}
    kinds = _kinds(open_ones)
    for name, one in measured.items():
        if one.declared is not None:
            kinds.setdefault(one.declared, []).append(name)
    if len(kinds) > 1 or (eight and kinds.keys() - {FULL_SCALE}):
        told = {f"a full scale of {scale}": kinds[scale] for scale in sorted(kinds)}
        if eight:
            told = {"8 bits": list(eight)} | told
        listed = "\n".join(f"  {kind}: {_examples(names)}" for kind, names in told.items())
        largest = max(kinds)
        raise HEp2Error(
            f"{where}: images of different scales; bring them to one, or leave one kind out:\n"
            f"{listed}\nIf those of 16 bits are of one kind all the same, say so with "
            f"data.full_scale=<number>, e.g. {largest}."
        )
    return next(iter(kinds), FULL_SCALE)


def _kinds(brightest: Mapping[str, int]) -> dict[int, list[str]]:
    """Files by their scale: one, or two where they fall into two groups that are far apart."""
    lit = {name: value for name, value in brightest.items() if value}  # black says nothing
    if not lit:
        return {FULL_SCALE: list(brightest)} if brightest else {}
    highest = _smallest(max(lit.values()))
    for scale in SCALES[: SCALES.index(highest)]:
        lower = [name for name, value in lit.items() if value <= scale]
        upper = [name for name, value in lit.items() if value > scale]
        if _apart([lit[name] for name in lower], [lit[name] for name in upper], scale):
            return {scale: lower, highest: upper}
    return {highest: list(brightest)}


def _smallest(brightest: int) -> int:
    return next(scale for scale in SCALES if brightest <= scale)


def _apart(lower: Collection[int], upper: Collection[int], scale: int) -> bool:
    """Whether images as dark as `lower` are of another scale than `upper`, not darker cells.

    So it is where several are saturated at the lower scale, or fill it and leave a gap: of a
    factor 2 between groups of some size, or 4 where one has less than a tenth of the images.
    """
    if not lower:
        return False
    if list(lower).count(scale) > 1:
        return True
    few = 10 * min(len(lower), len(upper)) < len(lower) + len(upper)
    return max(lower) > scale / 2 and min(upper) >= (4 if few else 2) * max(lower)


def _examples(names: Sequence[str]) -> str:
    shown = ", ".join(names[:EXAMPLES])
    return f"{len(names)} images, e.g. {shown}"
