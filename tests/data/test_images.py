import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hep2.data import images
from hep2.data.header import ImageError, Page, has_16_bits
from hep2.data.images import load_cell, read_image, resize_square
from hep2.errors import HEp2Error


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    high = np.iinfo(dtype).max + 1
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def write(path: Path, pixels: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_grey_8_bit_is_read_exactly(tmp_path: Path, suffix: str) -> None:
    pixels = noise(20, 30)
    read = read_image(write(tmp_path / f"a.{suffix}", pixels), "green")
    assert read.dtype == np.uint8
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (20, 30, 4)])
def test_16_bit_is_read_exactly(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    pixels = noise(*shape, dtype=np.uint16)
    read = read_image(write(tmp_path / f"a.{suffix}", pixels), "green")
    assert read.dtype == np.uint16
    assert np.array_equal(read, pixels if len(shape) == 2 else pixels[:, :, 1])


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "jpg"])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_header_tells_16_bits(
    tmp_path: Path, suffix: str, shape: tuple[int, ...], dtype: type
) -> None:
    if dtype is np.uint16 and suffix in ("bmp", "jpg"):
        pytest.skip("these have 8 bits")
    file = write(tmp_path / f"a.{suffix}", noise(*shape, dtype=dtype))
    assert has_16_bits(file) == (read_image(file, "green").dtype == np.uint16)


def test_what_cannot_be_read_has_no_16_bits(tmp_path: Path) -> None:
    for name, content in (
        ("empty.png", b""),
        ("cut.png", b"\x89PNG\r\n\x1a\n"),
        ("cut.tif", b"II*"),
    ):
        (tmp_path / name).write_bytes(content)
        assert not has_16_bits(tmp_path / name)
    assert not has_16_bits(tmp_path / "missing.png")
    Image.new("1", (8, 8)).save(tmp_path / "bits.tif")
    assert not has_16_bits(tmp_path / "bits.tif")


def test_more_bits_than_the_header_says_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.png", noise(8, 8, dtype=np.uint16))
    monkeypatch.setattr(images, "page_of", lambda *_: Page())
    with pytest.raises(ImageError, match="16 bits a pixel, though its header says fewer"):
        read_image(file, "green")


def test_jpeg_is_read(tmp_path: Path) -> None:
    pixels = np.full((16, 16), 77, np.uint8)
    assert np.array_equal(read_image(write(tmp_path / "a.JPG", pixels), "green"), pixels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colour_channels_are_told_apart(tmp_path: Path, mode: str) -> None:
    colour = (10, 200, 91) if mode == "RGB" else (10, 200, 91, 3)
    file = tmp_path / "a.png"
    Image.new(mode, (9, 9), colour).save(file)
    values = {name: int(read_image(file, name)[4, 4]) for name in ("red", "green", "blue", "mean")}
    assert values == {"red": 10, "green": 200, "blue": 91, "mean": 100}


def test_grey_ignores_the_channel(tmp_path: Path) -> None:
    pixels = noise(8, 8)
    file = write(tmp_path / "a.png", pixels)
    assert all(np.array_equal(read_image(file, c), pixels) for c in ("red", "blue", "mean"))


def test_unknown_channel(tmp_path: Path) -> None:
    with pytest.raises(HEp2Error, match=r"data\.channel=gren is unknown; choose one of green"):
        read_image(tmp_path / "a.png", "gren")


def test_missing_empty_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="missing file"):
        read_image(tmp_path / "none.png", "green")
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match="0 bytes"):
        read_image(tmp_path / "empty.png", "green")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(tmp_path / "text.png", "green")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match="a folder"):
        read_image(tmp_path / "folder.png", "green")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of the cut TIFF before failing
def test_truncated_file(tmp_path: Path, suffix: str) -> None:
    file = write(tmp_path / f"a.{suffix}", noise(64, 64))
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(file, "green")


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_other_pixel_types_are_refused(tmp_path: Path, dtype: type) -> None:
    file = tmp_path / "a.tif"
    Image.fromarray(np.ones((8, 8), dtype)).save(file)
    with pytest.raises(ImageError, match=rf"{np.dtype(dtype).name}; save it with 8 or 16 bits"):
        read_image(file, "green")


def test_cmyk_is_refused(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="CMYK; save it as grey or RGB"):
        read_image(tmp_path / "a.jpg", "green")


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(body))
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + crc + bytes(4) + b"IDAT" + bytes(40)
    )


@pytest.mark.parametrize("side", [8001, 60000])
def test_too_large_is_refused_before_it_is_decoded(
    tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    (tmp_path / "a.png").write_bytes(png_header(side, side))
    with pytest.raises(ImageError, match="more than 16 megapixels"):
        read_image(tmp_path / "a.png", "green")


def test_resize_down_is_the_area_mean() -> None:
    image = noise(8, 8)
    blocks = image.reshape(4, 2, 4, 2).mean(axis=(1, 3))
    assert np.abs(resize_square(image, 4) - blocks).max() <= 0.5


def test_same_size_is_unchanged_and_constant_stays_constant() -> None:
    image = noise(16, 16, dtype=np.uint16)
    assert np.array_equal(resize_square(image, 16), image)
    flat = np.full((5, 40), 321, np.uint16)
    assert np.array_equal(resize_square(flat, 16), np.full((16, 16), 321))


def test_longer_side_fits_and_the_rest_is_reflected() -> None:
    image = noise(8, 4)
    square = resize_square(image, 8)
    assert square.shape == (8, 8)
    assert np.array_equal(square[:, 2:6], image)
    assert np.array_equal(square[:, :2], image[:, 2:0:-1])
    assert np.array_equal(square[:, 6:], image[:, 2:0:-1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 1000), (1000, 1), (3, 2)])
def test_extreme_shapes(shape: tuple[int, int]) -> None:
    assert resize_square(noise(*shape), 64).shape == (64, 64)


def test_digest_depends_on_pixels_alone(tmp_path: Path) -> None:
    pixels = noise(12, 12)
    png = load_cell(write(tmp_path / "a.png", pixels), 8, "green")
    bmp = load_cell(write(tmp_path / "b.bmp", pixels), 8, "green")
    pixels[0, 0] ^= 1
    other = load_cell(write(tmp_path / "c.png", pixels), 8, "green")
    assert png.digest == bmp.digest != other.digest
    assert not png.constant
    assert load_cell(write(tmp_path / "d.png", np.zeros((9, 9), np.uint8)), 8, "green").constant
