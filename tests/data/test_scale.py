"""Values of 10, 12 or 14 bits in 16: found over the whole set, said once, or set; never mixed."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import composed
from helpers.tiffs import WHITE_IS_ZERO, png, tiff, write

from hep2.data.cells import Cells
from hep2.data.fold import open_fold
from hep2.data.scale import Measured, found_scale, full_scale_of
from hep2.data.sources import manifest
from hep2.data.store import open_cells
from hep2.errors import HEp2Error

NAMES = tuple(f"{label}{specimen}{cell}" for label in "ab" for specimen in "12" for cell in "12")


def light(number: int) -> np.ndarray:
    """A cell, from 0 to at most 1: float, (16, 16)."""
    return np.random.default_rng(number).random((16, 16)) * (0.6 + 0.05 * number)


def of_bits(number: int, bits: int) -> np.ndarray:
    values = np.round(light(number) * ((1 << bits) - 1))
    return values.astype(np.uint8 if bits == 8 else np.uint16)


def write_set(root: Path, depth: Callable[[int], int], suffix: str = "tif") -> Path:
    """A data set, each cell with as many bits as `depth` says of its number."""
    for number, name in enumerate(NAMES):
        pixels = of_bits(number, depth(number))
        write(root / f"{name}.{suffix}", tiff(pixels) if suffix == "tif" else png(pixels))
    rows = [f"{name}.{suffix},{name[0]},{name[:2]}\n" for name in NAMES]
    (root / "manifest.csv").write_text("image,label,specimen\n" + "".join(rows))
    return root


def opened(root: Path, full_scale: int | None = None, page: int | None = None) -> Cells:
    cache = root.parent / "cache"
    return open_cells(manifest(str(root)), cache, 16, "green", page, full_scale)


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_set_is_read_by_the_bits_that_it_fills(tmp_path: Path, bits: int, suffix: str) -> None:
    cells = opened(write_set(tmp_path / "data", lambda _: bits, suffix))
    top = (1 << bits) - 1
    assert cells.file_scale == top
    for number in range(len(NAMES)):
        expected = np.round(of_bits(number, bits) * (65535 / top))
        assert np.array_equal(cells.images[number, 0], expected)
    assert np.abs(cells.images[5, 0] / 65535 - light(5)).max() < 1 / top


def test_8_bits_are_never_stretched(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", lambda _: 8)
    write(root / "a11.tif", tiff(of_bits(0, 8) // 9))  # a dark one
    cells = opened(root)
    assert cells.file_scale is None
    assert np.array_equal(cells.images[0, 0], of_bits(0, 8) // 9)
    assert opened(root, 255).key == cells.key
    with pytest.raises(HEp2Error, match=r"data\.full_scale=4095 is for images of 16 bits"):
        opened(root, 4095)


def test_what_is_set_is_taken(tmp_path: Path) -> None:
    """As for 16 bits that are all dark: what looks like 12 bits can be said to be 16."""
    root = write_set(tmp_path / "data", lambda _: 12)
    cells = opened(root, 65535)
    assert cells.file_scale == 65535
    assert all(np.array_equal(cells.images[n, 0], of_bits(n, 12)) for n in range(len(NAMES)))
    assert len({cells.key, opened(root).key, opened(root, 4000).key}) == 3
    full = write_set(tmp_path / "full", lambda _: 16)
    assert opened(full).key == opened(full, 65535).key


def test_pixels_above_what_is_set_are_named(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", lambda n: 16 if n == 3 else 12)
    told = r"1 problem(.|\n)*\(a22.tif\): a pixel of \d{5}, above the full scale 4095"
    with pytest.raises(HEp2Error, match=told):
        opened(root, 4095)


@pytest.mark.parametrize("full_scale", [254, 65536, 4095.0, "4095", True])
def test_a_full_scale_is_a_number_of_16_bits(tmp_path: Path, full_scale: object) -> None:
    root = write_set(tmp_path / "data", lambda _: 12)
    with pytest.raises(HEp2Error, match=rf"data\.full_scale={full_scale} must be a whole number"):
        opened(root, full_scale)  # type: ignore[arg-type]


@pytest.mark.parametrize("page", [-1, 1.0, "0", False])
def test_a_page_is_a_number(tmp_path: Path, page: object) -> None:
    root = write_set(tmp_path / "data", lambda _: 8)
    with pytest.raises(HEp2Error, match=rf"data\.page={page} must be a whole number"):
        opened(root, page=page)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"), [(8, 10), (8, 12), (8, 14), (10, 12), (10, 16), (12, 14), (12, 16)]
)
def test_a_mixture_is_refused_with_both_kinds(tmp_path: Path, one: int, other: int) -> None:
    root = write_set(tmp_path / "data", lambda n: other if n % 2 else one)
    kinds = ["8 bits" if bits == 8 else f"a full scale of {2**bits - 1}" for bits in (one, other)]
    first, second = r"row 2 \(a11.tif\)", r"row 3 \(a12.tif\)"
    told = rf"{kinds[0]}: 4 images, e.g. .*{first}(.|\n)*{kinds[1]}: 4 images, e.g. .*{second}"
    with pytest.raises(HEp2Error, match=told) as error:
        opened(root)
    assert f"data.full_scale=<number>, e.g. {2**other - 1}" in str(error.value)
    assert opened(root, 2**other - 1).file_scale == 2**other - 1  # the remedy


def test_8_bits_beside_12_are_read_where_that_is_said(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", lambda n: 12 if n % 2 else 8)
    cells = opened(root, 4095)
    assert np.array_equal(cells.images[0, 0], of_bits(0, 8).astype(np.uint16) * 257)
    assert np.abs(cells.images[1, 0] / 65535 - light(1)).max() < 1 / 4095


def test_a_file_that_cannot_be_read_is_no_kind(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", lambda _: 12)
    (root / "a11.tif").unlink()
    (root / "a12.tif").write_bytes(b"no image")
    with pytest.raises(HEp2Error, match=r"2 problems(.|\n)*missing file(.|\n)*cannot be decoded"):
        opened(root)


def measured(*brightest: int) -> dict[str, Measured]:
    return {f"c{n}": Measured(16, value, None) for n, value in enumerate(brightest)}


@pytest.mark.parametrize(
    ("brightest", "scale"),
    [
        ([900, 1023], 1023),
        ([900, 1024], 4095),
        ([200, 255], 255),
        ([0, 0], 65535),  # black says nothing
        ([0, 3000], 4095),
        ([65535], 65535),
        ([3000, 4200, 9000, 20000, 60000], 65535),  # dark cells beside bright ones
        ([1200, 9000, 20000, 60000], 65535),  # one that fills no smaller scale
        ([*range(2500, 65000, 1500)], 65535),
        ([3900, *range(9000, 65000, 1500)], 65535),  # one dark cell, no gap of four
        ([300, 3000, 8000, 20000, 60000], 65535),  # another gap is wider
    ],
)
def test_one_scale(brightest: list[int], scale: int) -> None:
    assert found_scale("x", measured(*brightest)) == scale


@pytest.mark.parametrize(
    "brightest",
    [
        [3000, 3900, 30000, 60000],
        [3900, *range(16000, 65000, 1500)],  # one, but far away
        [4095, 4095, 4500, 9000, 20000, 60000],  # saturated where 12 bits end
        [200, 255, 3000, 4000],
    ],
)
def test_two_scales(brightest: list[int]) -> None:
    with pytest.raises(HEp2Error, match="images of different scales"):
        found_scale("x", measured(*brightest))


SAID = {
    "sBIT": png(of_bits(0, 12), (b"sBIT", b"\x0c")),
    "OME": tiff(of_bits(0, 12), tags={270: '<OME><Pixels SignificantBits="12" /></OME>'}),
    "Micro-Manager": tiff(of_bits(0, 12), tags={51123: '{"BitDepth": 12, "Width": 16}'}),
    "MaxSampleValue": tiff(of_bits(0, 12), tags={281: 4095}),
    "ImageJ": tiff(of_bits(0, 12), tags={270: "ImageJ=1.53t\nmin=0.0\nmax=4095.0\n"}),
}
FULL = {
    "sBIT": png(of_bits(0, 12) * np.uint16(16), (b"sBIT", b"\x0c")),
    "dark sBIT": png(of_bits(0, 12) // 20 * np.uint16(16), (b"sBIT", b"\x0c")),
    "sBIT 16": png(of_bits(0, 12), (b"sBIT", b"\x10")),
    "OME 16": tiff(of_bits(0, 12), tags={270: '<Pixels SignificantBits="16" />'}),
    "packed": tiff(of_bits(0, 12) // 20, bits=12),
}


@pytest.mark.parametrize(
    ("content", "scale"),
    [
        *(pytest.param(one, 4095, id=name) for name, one in SAID.items()),
        *(pytest.param(one, 65535, id=f"full {name}") for name, one in FULL.items()),
    ],
)
def test_what_a_file_says_of_its_bits_is_taken(tmp_path: Path, content: bytes, scale: int) -> None:
    """A dark cell of 12 bits would be taken for one of 10."""
    suffix = "png" if content.startswith(b"\x89PNG") else "tif"
    file = write(tmp_path / f"a.{suffix}", content)
    assert full_scale_of("x", lambda: [("a", file)], "green") == scale


def test_what_files_say_may_not_differ(tmp_path: Path) -> None:
    files = [
        (name, write(tmp_path / name, content))
        for name, content in {"a.tif": SAID["OME"], "b.tif": FULL["packed"]}.items()
    ]
    with pytest.raises(HEp2Error, match=r"4095: 1 images, e\.g\. a\.tif(.|\n)*65535: 1 images"):
        full_scale_of("x", lambda: files, "green")


def test_an_inverted_scale_is_the_set_s(tmp_path: Path) -> None:
    plain, inverted = (write_set(tmp_path / name, lambda _: 12) for name in ("a", "b"))
    for number, name in enumerate(NAMES):
        stored = 4095 - of_bits(number, 12)
        write(inverted / f"{name}.tif", tiff(stored, tags=WHITE_IS_ZERO))
    assert opened(inverted).key == opened(plain).key


def test_a_page_of_every_file_is_a_data_set(tmp_path: Path) -> None:
    root, other = (write_set(tmp_path / name, lambda _: 12) for name in ("data", "other"))
    for number, name in enumerate(NAMES):
        write(root / f"{name}.tif", tiff(of_bits(20 - number, 16), of_bits(number, 12)))
    with pytest.raises(HEp2Error, match=r"8 problems(.|\n)*2 pages; choose one with data\.page="):
        opened(root)
    assert opened(root, page=1).key == opened(other).key
    assert opened(root, page=0).file_scale == 65535


@pytest.mark.parametrize(
    ("bits", "words", "level", "told"),
    [
        (8, [], None, ""),
        (12, [], logging.WARNING, "cells: 4095 is taken for white in 16-bit images"),
        (16, [], logging.INFO, "cells: 65535 is taken for white in 16-bit images"),
        (12, ["data.full_scale=4095"], logging.INFO, "cells: 4095 is white in 16-bit images"),
    ],
)
def test_the_scale_is_said_in_one_line_each_time(
    tmp_path: Path, bits: int, words: list[str], level: int, told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    root = write_set(tmp_path / "data", lambda _: bits)
    where = [f"data.root={root}", f"cache_dir={tmp_path}/cache", "data.image_size=16"]
    words = ["data=manifest", "data.name=cells", "protocol.folds=2", *where, *words]
    caplog.set_level(logging.INFO)
    for _ in range(2):
        caplog.clear()
        fold = open_fold(composed(*words))
        lines = [record for record in caplog.records if "16-bit" in record.getMessage()]
        assert [record.levelno for record in lines] == ([level] if level else [])
        assert all(told in line.getMessage() for line in lines)
        guessed = level == logging.WARNING
        assert [told in note for note in fold.notes] == [True] * guessed
