"""Files of every format: read whole, or one line. Hostile ones too."""

import logging
import random
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from facts import assert_says, raises
from pictures import file_of, picture
from PIL import Image, ImageFile

from mlx_diffgemma.errors import ImageError
from mlx_diffgemma.images.formats import container_of, format_of
from mlx_diffgemma.images.prepare import open_image

LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "WEBP": {"lossless": True}}
LOSSY = {"JPEG": {}, "AVIF": {}, "GIF": {}, "HEIF": {}}
NAMES = {"WEBP": "WebP", "HEIF": "HEIC"}
IMAGE = picture((61, 43), seed=8)


def file_in(kind: str, image: Image.Image = IMAGE, **how: object) -> bytes:
    """The bytes of a file, which need no plug-in that the tests would leave behind."""
    if kind == "HEIF":
        return heic(image, **how)
    return file_of(image, kind, **LOSSLESS.get(kind, {}) | how)


def heic(image: Image.Image, **how: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", reason="HEIC was not checked")
    out = BytesIO()
    pillow_heif.from_pillow(image).save(out, **how)
    return out.getvalue()


def rgb(data: bytes) -> np.ndarray:
    return np.asarray(open_image(data).image)


# --- whole files


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_lossless_file_gives_its_pixels(kind: str) -> None:
    np.testing.assert_array_equal(rgb(file_in(kind)), np.asarray(IMAGE))


@pytest.mark.parametrize("kind", LOSSY)
def test_a_lossy_file_gives_nearly_its_pixels(kind: str) -> None:
    smooth = IMAGE.resize((16, 12)).resize((64, 48), Image.Resampling.BICUBIC)
    found = rgb(file_in(kind, smooth)).astype(int)
    assert found.shape == (48, 64, 3)
    assert np.abs(found - np.asarray(smooth)).mean() < 6


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_the_first_frame_of_an_animation_is_the_image(kind: str) -> None:
    frames = [picture((40, 30), seed=number) for number in range(4)]
    animated = file_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    single = file_of(frames[0], kind)
    assert np.abs(rgb(animated).astype(int) - rgb(single)).mean() < 12
    assert np.abs(rgb(animated).astype(int) - rgb(file_of(frames[1], kind))).mean() > 20


def test_a_jpeg_in_cmyk_is_converted() -> None:
    image = picture((40, 30), "CMYK")
    data = file_of(image, "JPEG", quality=100, subsampling=0)
    assert np.abs(rgb(data).astype(int) - np.asarray(image.convert("RGB"))).mean() < 4


def test_a_photo_of_an_iphone_is_upright() -> None:
    """Its file states the turn twice, as a box of HEIC and in EXIF: it is made once."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = picture((64, 32))
    assert rgb(heic(image, exif=exif.tobytes())).shape[:2] in ((64, 32), (32, 64))
    pillow_heif = pytest.importorskip("pillow_heif", reason="HEIC was not checked")
    upright = pillow_heif.open_heif(BytesIO(heic(image, exif=exif.tobytes()))).to_pillow()
    np.testing.assert_array_equal(rgb(heic(image, exif=exif.tobytes())), np.asarray(upright))


def test_opening_heic_registers_nothing_with_pillow() -> None:
    data = file_in("HEIF")
    before = set(Image.OPEN), set(Image.SAVE)
    open_image(data)
    assert "HEIF" not in Image.OPEN
    assert (set(Image.OPEN), set(Image.SAVE)) == before


# --- which format


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_a_format_is_told_by_its_first_bytes(kind: str) -> None:
    assert format_of(file_in(kind)[:64]) == kind


def test_a_format_is_told_by_any_of_its_brands() -> None:
    head = b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf"
    assert format_of(head) == "AVIF"
    assert format_of(head.replace(b"avif", b"heic")) == "HEIF"
    assert container_of(b"\0\0\0\x18ftypmp42\0\0\0\0isommp42") == "mov"


OTHERS = {
    "text": b"hello, world\n" * 9,
    "zeros": bytes(1000),
    "one byte": b"\x89",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "pdf": b"%PDF-1.7\n" + bytes(99),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "pickle": b"\x80\x04K\x01.",
}


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_what_is_no_image_is_one_line(data: bytes) -> None:
    with raises(ImageError, "the image", "PNG, JPEG, WebP, GIF, TIFF, BMP, HEIC or AVIF"):
        open_image(data)


def test_an_empty_file_says_that_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with raises(ImageError, "empty.png", "empty", "PNG"):
        open_image(tmp_path / "empty.png")


@pytest.mark.parametrize(
    "head",
    [b"\0\0\0\x18ftypisom", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI LIST"],
    ids=["mp4", "mkv", "avi"],
)
def test_a_video_is_told_apart(head: bytes) -> None:
    with raises(ImageError, "the image", "video"):
        open_image(head + bytes(99))


def test_no_other_program_is_started_for_a_file_that_pillow_would_hand_on() -> None:
    """Pillow's plug-in for PostScript runs Ghostscript."""
    head = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n"
    for kind in (*LOSSLESS, *LOSSY):
        with pytest.raises(ImageError):
            open_image(file_in(kind)[:4] + head)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_no_other_plug_in_is_asked(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object) -> None:
        raise AssertionError("asked")

    monkeypatch.setitem(Image.OPEN, "GREEDY", (greedy, None))
    monkeypatch.setattr(Image, "ID", ["GREEDY", *Image.ID])
    np.testing.assert_array_equal(rgb(file_in(kind)), np.asarray(IMAGE))


# --- too many pixels


def claiming(kind: str, width: int, height: int) -> bytes:
    """A small file that states a size."""
    if kind == "PNG":
        header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        chunks = [header, b"IDAT" + zlib.compress(bytes(99))]
        packed = (
            struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
        )
        return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
    data = bytearray(file_in(kind))
    if kind == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
    elif kind == "JPEG":
        at = next(m.start() for m in re.finditer(b"\xff[\xc0-\xc2]", data))
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    elif kind == "TIFF":
        for tag, value in ((256, width), (257, height)):
            at = data.index(struct.pack("<H", tag), 8)
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, value)
    elif kind in ("HEIF", "AVIF"):
        for at in [m.end() for m in re.finditer(b"ispe", data)]:
            data[at + 4 : at + 12] = struct.pack(">II", width, height)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("size", [(100_000, 100_000), (11_586, 11_585), (1, 200_000_000)])
def test_more_pixels_than_can_be_decoded_are_refused_at_once(
    kind: str, size: tuple[int, int]
) -> None:
    with raises(ImageError, "the image", "pixels ... 134,217,728 ... smaller"):
        open_image(claiming(kind, *size))


@pytest.mark.parametrize("kind", ["JPEG", "GIF"])
def test_sizes_of_two_bytes_are_refused_alike(kind: str) -> None:
    with raises(ImageError, "pixels ... 134,217,728"):
        open_image(claiming(kind, 65_000, 65_000))


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_libraries_with_a_bound_of_their_own_are_one_line(kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        open_image(claiming(kind, 100_000, 100_000))
    assert_says(caught.value, "the image")


def test_pillows_own_warning_about_large_images_is_not_shown() -> None:
    """It begins at 89 million pixels; warnings are errors here."""
    with raises(ImageError, "broken or incomplete PNG"):
        open_image(claiming("PNG", 10_000, 10_000))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("size", [(0, 9), (9, 0), (0, 0)])
def test_a_size_of_zero_is_refused(kind: str, size: tuple[int, int]) -> None:
    with pytest.raises(ImageError) as caught:
        open_image(claiming(kind, *size))
    assert_says(caught.value, "the image")


# --- broken files


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_a_truncated_file_is_refused_never_half_shown(kind: str) -> None:
    """What may be missing is what stands behind the last pixel."""
    data = file_in(kind)
    whole = rgb(data)
    for length in {len(data) * share // 40 for share in range(1, 40)} | {len(data) - 1}:
        try:
            found = rgb(data[:length])
        except ImageError as error:
            assert_says(error, "the image")
        else:
            np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_half_a_file_is_named_with_its_format(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "half"
    data = file_in(kind)
    file.write_bytes(data[: len(data) // 2])
    with raises(ImageError, "half", f"{NAMES.get(kind, kind)} image"):
        open_image(file)


def test_pillow_shows_no_half_images_here() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_pillows_warnings_stay_away_from_the_user(capfd: pytest.CaptureFixture[str]) -> None:
    handlers = list(logging.getLogger("PIL").handlers)
    image = picture((20, 20), "P")
    image.info["transparency"] = bytes(256)
    data = file_of(picture((20, 20)), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        open_image(image)
        open_image(data)
    assert [str(warning.message) for warning in seen] == []
    assert logging.getLogger("PIL").handlers == handlers
    assert capfd.readouterr() == ("", "")


def test_libtiffs_own_lines_stay_away_from_the_user(capfd: pytest.CaptureFixture[str]) -> None:
    """It writes them to the file descriptor, one for each row that it cannot read."""
    data = bytearray(file_of(IMAGE, "TIFF", compression="tiff_lzw"))
    data[20:600] = random.Random(0).randbytes(580)
    with raises(ImageError, "TIFF image"):
        open_image(bytes(data))
    assert capfd.readouterr() == ("", "")


def damaged(data: bytes, numbers: random.Random) -> bytes:
    """The bytes with some changed, cut out, doubled or replaced by extreme numbers."""
    content = bytearray(data)
    for _ in range(numbers.choice([1, 1, 2, 4, 30])):
        at = numbers.randrange(min(len(content), numbers.choice([40, 400, len(content)])))
        span = numbers.choice([1, 1, 2, 4, 8, 60])
        match numbers.randrange(4):
            case 0:
                content[at] ^= 1 << numbers.randrange(8)
            case 1:
                content[at : at + span] = numbers.choice([b"\xff", b"\0", b"\x7f"]) * span
            case 2:
                del content[at : at + span]
            case _:
                content[at:at] = content[at : at + span]
        if not content:
            return b""
    return bytes(content)


def files() -> Iterator[tuple[str, bytes]]:
    """One of each format, and of each kind that has a decoder of its own."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in (*LOSSLESS, *LOSSY):
        yield kind, file_in(kind)
    yield "PNG", file_of(picture((30, 20), "P"), "PNG", transparency=bytes(200))
    yield "PNG", file_of(Image.fromarray(np.full((9, 9), 999, np.uint16)), "PNG", transparency=9)
    yield "JPEG", file_of(IMAGE, "JPEG", progressive=True, exif=exif)
    yield "TIFF", file_of(IMAGE, "TIFF", compression="tiff_lzw")
    yield "TIFF", file_of(IMAGE, "TIFF", compression="jpeg")
    yield "WEBP", file_of(IMAGE, "WEBP", quality=50, exif=exif)
    yield "BMP", file_of(picture((30, 20), "P"), "BMP")
    frames = [picture((20, 10), seed=number) for number in range(3)]
    for kind in ("GIF", "PNG", "WEBP"):
        yield kind, file_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_damaged_files_give_an_image_or_one_line(
    seed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    numbers = random.Random(seed)
    for kind, data in files():
        for _ in range(50):
            broken = damaged(data, numbers)
            try:
                assert open_image(broken).image.mode == "RGB", kind
            except ImageError as error:
                assert_says(error, "the image")
    assert capfd.readouterr() == ("", "")
