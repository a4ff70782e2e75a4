"""What a file says of itself is obeyed: its pages, its black and white, which way is up."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.tiffs import WHITE_IS_ZERO, png, tiff, write
from PIL import Image

from hep2.data.header import ImageError, has_16_bits
from hep2.data.images import read_image

RAMP = (np.arange(12)[:, None] * 16 + np.arange(10)).astype(np.uint8)
WIDE = RAMP.astype(np.uint16) * 257
TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # how a file of an orientation looks
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("pixels", [RAMP, WIDE], ids=["8", "16"])
def test_where_white_is_zero_what_is_bright_has_high_values(
    tmp_path: Path, pixels: np.ndarray, order: str
) -> None:
    inverted = np.iinfo(pixels.dtype).max - pixels
    file = write(tmp_path / "a.tif", tiff(inverted, tags=WHITE_IS_ZERO, order=order))
    read = read_image(file, "green")
    assert read.dtype == pixels.dtype
    assert np.array_equal(read, pixels)


def test_where_white_is_zero_the_full_scale_is_black(tmp_path: Path) -> None:
    twelve = RAMP.astype(np.uint16) * 16
    inverted = write(tmp_path / "a.tif", tiff(4095 - twelve, tags=WHITE_IS_ZERO))
    plain = write(tmp_path / "b.tif", tiff(twelve))
    expected = read_image(plain, "green", full_scale=4095)
    assert np.array_equal(read_image(inverted, "green", full_scale=4095), expected)


@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_values_reach_from_black_to_white(
    tmp_path: Path, bits: int, white_is_zero: bool
) -> None:
    top = (1 << bits) - 1
    values = np.linspace(0, top, 120).astype(np.uint16).reshape(12, 10)
    stored = top - values if white_is_zero else values
    file = write(
        tmp_path / "a.tif", tiff(stored, bits=bits, tags=WHITE_IS_ZERO if white_is_zero else {})
    )
    read = read_image(file, "green").astype(float) / 65535
    assert np.abs(read - values / top).max() < 1 / top


@pytest.mark.parametrize("page", [None, 0, 1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("pixels", [RAMP, WIDE], ids=["8", "16"])
def test_pages_are_chosen_and_never_guessed(
    tmp_path: Path, pixels: np.ndarray, order: str, page: int | None
) -> None:
    file = write(tmp_path / "a.tif", tiff(pixels, pixels[:7] + 1, order=order))
    if page in (0, 1):
        assert np.array_equal(read_image(file, "green", page), (pixels, pixels[:7] + 1)[page])
        assert has_16_bits(file, page) == (pixels.dtype == np.uint16)
        return
    told = r"2 pages; choose one with data\.page=<0 to 1>" if page is None else "2 pages, no page 2"
    with pytest.raises(ImageError, match=told):
        read_image(file, "green", page)


def test_pages_may_have_different_depths(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", tiff(RAMP, WIDE))
    assert [has_16_bits(file, page) for page in (0, 1)] == [False, True]
    assert np.array_equal(read_image(file, "green", 1), WIDE)


@pytest.mark.parametrize("kind", [1, 4])
def test_a_small_copy_or_a_mask_is_no_page(tmp_path: Path, kind: int) -> None:
    file = write(tmp_path / "a.tif", tiff(RAMP, RAMP[::2, ::2], later=[{254: kind}]))
    assert np.array_equal(read_image(file, "green"), RAMP)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_other_formats_have_one_page(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(RAMP).save(tmp_path / f"a.{suffix}")
    assert read_image(tmp_path / f"a.{suffix}", "green", 0).shape == (12, 10)
    with pytest.raises(ImageError, match=r"one page, no page 1 \(data\.page counts from 0\)"):
        read_image(tmp_path / f"a.{suffix}", "green", 1)


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["tif", "tif16", "png", "png16", "jpg"])
def test_orientation_is_undone(tmp_path: Path, kind: str, orientation: int) -> None:
    pixels = WIDE if kind.endswith("16") else RAMP
    file = tmp_path / f"a.{kind.removesuffix('16')}"
    if kind.startswith("tif"):
        write(file, tiff(pixels, tags={274: orientation}))
    else:
        exif = Image.Exif()
        exif[274] = orientation
        if kind == "jpg":
            pixels = np.kron(RAMP, np.ones((8, 8), np.uint8))  # whose blocks survive JPEG
        Image.fromarray(pixels).save(file, exif=exif, **({"quality": 100} if kind == "jpg" else {}))
    read, expected = read_image(file, "green"), TURNED[orientation](pixels)
    assert read.shape == expected.shape
    assert np.abs(read.astype(int) - expected).max() <= (2 if kind == "jpg" else 0)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_a_palette_is_looked_up(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(RAMP).convert("P")
    image.putpalette([value for i in range(256) for value in (i // 2, 255 - i, 7)])
    image.save(tmp_path / f"a.{suffix}")
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}", "green"), 255 - RAMP)
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}", "red"), RAMP // 2)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_one_bit_is_black_or_white(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(RAMP > 90).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}", "green"), (RAMP > 90) * 255)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_transparency_darkens_nothing(tmp_path: Path, suffix: str, mode: str) -> None:
    other, alpha = np.full_like(RAMP, 9), 255 - RAMP // 2
    bands = {"LA": (RAMP, alpha), "RGBA": (other, RAMP, other, alpha)}[mode]
    Image.merge(mode, list(map(Image.fromarray, bands))).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}", "green"), RAMP)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (tiff(RAMP.astype(np.float16)), "pixels are float16; save it with 8 or 16 bits"),
        (tiff(RAMP.astype(np.float32)), "pixels are float32; save it with 8 or 16 bits"),
        (tiff(RAMP.astype(np.float64)), "pixels are float64; save it with 8 or 16 bits"),
        (tiff(RAMP.astype(np.int16)), "pixels are int16; save it with 8 or 16 bits"),
        (tiff((RAMP // 2).astype(np.int8)), "pixels are int8; save it with 8 or 16 bits"),
        (tiff(RAMP.astype(np.uint32)), "pixels are uint32; save it with 8 or 16 bits"),
        (tiff(RAMP // 16, bits=4), "pixels are uint4; save it with 8 or 16 bits"),
        (tiff(np.stack([RAMP] * 2, -1), tags={262: 1}), "2 channels; save it as grey, RGB or RGBA"),
        (tiff(np.stack([WIDE] * 2, -1), tags={262: 1}), "2 channels; save it as grey, RGB or RGBA"),
        (tiff(np.stack([WIDE] * 3, -1), tags={262: 1}), "3 channels; save it as grey, RGB or RGBA"),
        (tiff(np.stack([RAMP] * 5, -1)), "5 channels; save it as grey, RGB or RGBA"),
        (tiff(np.stack([WIDE] * 4, -1), tags={262: 5}), "colours are CMYK; save it as grey or RGB"),
        (tiff(RAMP, tags={262: 32803}), "colours are those of a colour filter array"),
        (tiff(RAMP, tags={256: 60000, 257: 60000}), "60000 x 60000 is more than 16 megapixels"),
        (
            tiff(WIDE, tags={270: "ImageJ=1.5\ncf=0\nc0=-32768.0\nc1=1.0\n"}),
            r"ImageJ's values are -32768 \+ 1 times its pixels; save it uncalibrated",
        ),
    ],
)
def test_what_is_no_cell_image_is_refused_with_what_it_is(
    tmp_path: Path, content: bytes, told: str
) -> None:
    with pytest.raises(ImageError, match=told):
        read_image(write(tmp_path / "a.tif", content), "green")


def test_gamma_changes_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "a.png", png(RAMP, (b"gAMA", (100000).to_bytes(4, "big"))))
    assert np.array_equal(read_image(file, "green"), RAMP)


def test_big_tiffs_are_read(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.tif", big_tiff=True, save_all=True,
                               append_images=[Image.fromarray(RAMP[::-1])])  # fmt: skip
    assert np.array_equal(read_image(tmp_path / "a.tif", "green", 1), RAMP[::-1])


def test_a_broken_image_is_no_image_and_decoders_keep_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cut = write(tmp_path / "a.tif", tiff(WIDE, tags=WHITE_IS_ZERO, order=">")[:150])
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(cut, "green")
    assert capfd.readouterr() == ("", "")
