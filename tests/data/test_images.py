"""Every kind of PNG and JPEG comes out as well exposed 8-bit grey, or as one line saying why not."""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from retune.data.images import DECODER, FileImages, decode
from retune.data.png import plain
from retune.errors import BadImage, UserError

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "nih-sample"
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "L"
    return np.asarray(image)


def one_line(error: BaseException, *parts: str) -> None:
    assert isinstance(error, UserError)
    assert "\n" not in str(error)
    for part in parts:
        assert part in str(error)


def test_grey_is_untouched() -> None:
    assert (pixels(decode(encoded(Image.fromarray(RAMP)), name="a.png")) == RAMP).all()


@pytest.mark.parametrize("mode", ["RGB", "P", "LA", "RGBA"])
def test_opaque_colour_modes_keep_the_grey_values(mode: str) -> None:
    data = encoded(Image.fromarray(RAMP).convert(mode))
    assert Image.open(BytesIO(data)).mode == mode
    assert (pixels(decode(data, name="a.png")) == RAMP).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_on_black(mode: str) -> None:
    image = Image.new("L", (4, 4), 200).convert(mode)
    alpha = np.full((4, 4), 255, dtype=np.uint8)
    alpha[0], alpha[1] = 0, 128
    image.putalpha(Image.fromarray(alpha))
    assert pixels(decode(encoded(image), name="a.png"))[:, 0].tolist() == [0, 100, 200, 200]


def test_transparent_palette_entry_is_black() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 10, 10, 90, 90, 90])
    image.putpixel((1, 0), 1)
    assert pixels(decode(encoded(image, transparency=0), name="a.png")).tolist() == [[0, 90]]


def test_one_bit_spans_black_to_white() -> None:
    image = Image.fromarray(RAMP > 127)
    assert image.mode == "1"
    assert set(pixels(decode(encoded(image), name="a.png")).ravel().tolist()) == {0, 255}


def test_jpeg_colour_and_cmyk() -> None:
    for mode in ("L", "RGB", "CMYK"):
        grey = pixels(decode(encoded(Image.new("L", (16, 16), 90).convert(mode), "JPEG"), name="a.jpg"))
        assert np.abs(grey.astype(int) - 90).max() <= 3, mode


def without_adobe(data: bytes) -> bytes:
    """A JPEG without Adobe's marker, which says how colours are meant."""
    start = data.index(b"\xff\xee")
    assert data[start + 4 : start + 9] == b"Adobe"
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


@pytest.mark.parametrize("at_least", [None, 8])
def test_inks_are_inverted_in_adobes_files_only(at_least: int | None) -> None:
    plain = Image.fromarray(np.repeat(np.repeat(RAMP, 4, 0), 4, 1))
    # No colours but black ink: the picture is what the ink leaves. Pillow writes what Adobe would.
    ink = Image.merge("CMYK", [*(Image.new("L", plain.size) for _ in range(3)), ImageChops.invert(plain)])
    adobe = encoded(ink, "JPEG", quality=95)
    other = without_adobe(encoded(ImageChops.invert(ink), "JPEG", quality=95))
    assert Image.open(BytesIO(other)).mode == "CMYK"
    expected = pixels(decode(encoded(plain, "JPEG", quality=95), name="a.jpg", at_least=at_least))
    for data in (adobe, other):
        grey = pixels(decode(data, name="a.jpg", at_least=at_least))
        assert grey.shape == expected.shape
        assert np.abs(grey.astype(int) - expected).mean() < 2


def test_sixteen_bit_is_windowed_to_percentiles() -> None:
    # Twelve bits of signal, a burnt-in marker and a dead pixel.
    values = np.linspace(1000, 3000, 10_000).astype(np.uint16).reshape(100, 100)
    values[0, :5], values[50, 0] = 65535, 0
    data = encoded(Image.fromarray(values))
    assert Image.open(BytesIO(data)).mode.startswith("I")
    grey = pixels(decode(data, name="a.png"))
    assert grey[0, 0] == 255
    assert grey[50, 0] == 0
    middle = grey.ravel()[5000 + 1 :: 100][:20].astype(float)
    assert np.abs(np.diff(middle) - 255 / 99).max() < 1
    assert 120 < grey.ravel()[4999] < 135


def test_sixteen_bit_window_is_the_half_percent_tails() -> None:
    values = np.arange(1000, dtype=np.uint16).reshape(20, 50)
    grey = pixels(decode(encoded(Image.fromarray(values)), name="a.png")).ravel()
    low, high = 4, 994
    expected = np.rint(np.clip((np.arange(1000) - low) / (high - low), 0, 1) * 255)
    assert np.abs(grey - expected).max() <= 1
    assert (grey[: low + 1] == 0).all()
    assert (grey[high:] == 255).all()


def test_sixteen_bit_mostly_background_uses_the_whole_range() -> None:
    values = np.zeros((100, 100), dtype=np.uint16)
    values[0, :3] = (1000, 2000, 4000)
    grey = pixels(decode(encoded(Image.fromarray(values)), name="a.png"))
    assert grey[0, :4].tolist() == [64, 128, 255, 0]


@pytest.mark.parametrize(("value", "grey"), [(0, 0), (32768, 128), (65535, 255)])
def test_sixteen_bit_constant(value: int, grey: int) -> None:
    image = Image.fromarray(np.full((8, 8), value, dtype=np.uint16))
    assert (pixels(decode(encoded(image), name="a.png")) == grey).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_truncated_at_any_byte_is_never_a_partial_picture(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    whole = pixels(decode(data, name="a"))
    refused = 0
    for cut in range(0, len(data), 7):
        try:
            image = decode(data[:cut], name="00000001_000.png")
        except BadImage as error:
            one_line(error, "00000001_000.png")
            refused += 1
        else:
            # A PNG that lost no more than its checksum is whole.
            assert (pixels(image) == whole).all()
    assert refused >= (len(data) - 24) // 7


def scene(side: int = 200) -> Image.Image:
    """Soft shapes and noise, in three colours that differ."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1.0j]
    noise = np.random.default_rng(0).normal(0, 6, (side, side, 3))
    shapes = np.stack([120 + 80 * np.sin(5 * x + k) * np.cos(3 * y) for k in (0, 0.3, 0.5)], axis=2)
    return Image.fromarray(np.clip(shapes + noise, 0, 255).astype(np.uint8))


JPEGS = {
    "grey": ("L", {}),
    "grey, progressive": ("L", {"progressive": True}),
    "grey, restarts": ("L", {"restart_marker_blocks": 4}),
    "colour": ("RGB", {}),
    "colour, progressive": ("RGB", {"progressive": True, "subsampling": 0}),
    "colour, 4:2:2": ("RGB", {"subsampling": 1}),
    "colour, RGB": ("RGB", {"keep_rgb": True}),
    "inks": ("CMYK", {}),
}


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("at_least", [None, 20, 45, 90])
def test_a_sound_jpeg_has_the_pixels_that_pillow_gives_it(name: str, at_least: int | None) -> None:
    mode, options = JPEGS[name]
    data = encoded(scene(203).convert(mode), "JPEG", quality=90, **options)
    with Image.open(BytesIO(data)) as image:
        if at_least is not None:
            image.draft("L", (at_least, at_least))
        expected = image.convert("L")
    assert (pixels(decode(data, name="a.jpg", at_least=at_least)) == np.asarray(expected)).all()


def hole(data: bytes) -> bytes:
    start = len(data) // 4
    return data[:start] + bytes(600) + data[start + 600 :]


def cut_and_closed(data: bytes) -> bytes:
    return data[: len(data) * 3 // 5] + b"\xff\xd9"


def lost(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + data[middle + 300 :]


def doubled(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + data[middle - 400 :]


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("harm", [hole, cut_and_closed, lost, doubled])
@pytest.mark.parametrize("at_least", [None, 45])
def test_a_jpeg_damaged_inside_is_refused(
    name: str, harm: Callable[[bytes], bytes], at_least: int | None
) -> None:
    mode, options = JPEGS[name]
    data = harm(encoded(scene().convert(mode), "JPEG", quality=90, **options))
    with pytest.raises(BadImage, match=r"^a\.jpg: (is damaged inside|cannot be decoded) \(") as caught:
        decode(data, name="a.jpg", at_least=at_least)
    one_line(caught.value)


def test_a_flipped_byte_of_a_jpeg_is_noticed_where_libjpeg_does() -> None:
    # The codes fall into step again in most cases: then nothing tells.
    data = encoded(scene().convert("L"), "JPEG", quality=90)
    refused = 0
    for place in range(data.index(b"\xff\xda") + 20, len(data) - 40, len(data) // 100):
        flipped = bytearray(data)
        flipped[place] ^= 0x10
        try:
            decode(bytes(flipped), name="a.jpg")
        except BadImage as error:
            one_line(error, "a.jpg")
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("oddity", ["a JFIF of the future", "a broken profile"])
def test_odd_headers_of_a_jpeg_neither_cost_the_picture_nor_hide_damage(oddity: str) -> None:
    data = encoded(scene().convert("L"), "JPEG", quality=90, icc_profile=b"x" * 500)
    if oddity == "a JFIF of the future":
        at = data.index(b"JFIF\0") + 5
        data = data[:at] + b"\x07" + data[at + 1 :]
    else:
        at = data.index(b"ICC_PROFILE\0") + 12
        data = data[:at] + b"\x02" + data[at + 1 :]
    with Image.open(BytesIO(data)) as image:
        assert (pixels(decode(data, name="a.jpg")) == np.asarray(image)).all()
    with pytest.raises(BadImage, match=r"^a\.jpg: is damaged inside \(.*JPEG data"):
        decode(cut_and_closed(data), name="a.jpg")


@pytest.mark.parametrize("options", [{}, {"compress_level": 0}, {"optimize": True}])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "I;16"])
def test_no_flipped_byte_of_a_png_gives_another_picture(mode: str, options: dict[str, object]) -> None:
    deep = Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30) * 70)
    data = encoded(deep if mode == "I;16" else scene(30).convert(mode), **options)
    whole = pixels(decode(data, name="a.png"))
    for place in range(8, len(data) - 12, 5):
        flipped = bytearray(data)
        flipped[place] ^= 0x04
        try:
            found = pixels(decode(bytes(flipped), name="a.png"))
        except BadImage as error:
            one_line(error, "a.png")
        else:
            assert (found == whole).all(), place


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("filtering", range(5))
def test_plain_grey_has_the_pixels_that_pillow_gives_it(dtype: type, filtering: int) -> None:
    values = np.random.default_rng(filtering).integers(0, np.iinfo(dtype).max, (31, 47)).astype(dtype)
    # Every row filtered in one way: what its bytes undo to is noise of another kind.
    rows = np.insert(values.astype(values.dtype.newbyteorder(">")).view(np.uint8), 0, filtering, axis=1)
    head = struct.pack(">IIBBBBB", 47, 31, 8 * values.itemsize, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"tEXt", b"Software\0a camera")
    data += chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")
    found = plain(data, 31, 47)
    assert found is not None
    np.testing.assert_array_equal(found, np.asarray(Image.open(BytesIO(data))))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_png_whose_own_checksum_comes_late_is_held_against_the_others() -> None:
    # Pillow has all lines before it comes to the checksum of the packed data, in a chunk of its own.
    packed = zlib.compress(b"".join(b"\0" + line.tobytes() for line in RAMP), 0)

    def png(change: int) -> bytes:
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0))]
        chunks += [(b"IDAT", packed[:-4]), (b"IDAT", packed[-4:]), (b"IEND", b"")]
        data = b"".join(
            struct.pack(">I", len(b)) + kind + b + struct.pack(">I", zlib.crc32(kind + b))
            for kind, b in chunks
        )
        at = data.index(packed[:-4]) + 60
        return b"\x89PNG\r\n\x1a\n" + data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]

    assert (pixels(decode(png(0), name="a.png")) == RAMP).all()
    with pytest.raises(BadImage, match=r"^a\.png: is damaged inside \(a checksum"):
        decode(png(1), name="a.png")


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "empty file"),
        (b"not an image at all", "not a PNG, JPEG or DICOM"),
        (encoded(Image.new("L", (4, 4)), "GIF"), "not a PNG, JPEG or DICOM"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 64, "a.png"),
    ],
)
def test_undecodable(data: bytes, part: str) -> None:
    with pytest.raises(BadImage) as caught:
        decode(data, name="a.png")
    one_line(caught.value, "a.png", part)
    assert "BytesIO" not in str(caught.value)


@pytest.mark.parametrize("side", [10_000, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bomb_is_refused(side: int) -> None:
    # Between Pillow's limit and twice that it only warns; both must be refused.
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(BadImage) as caught:
        decode(data, name="bomb.png")
    one_line(caught.value, "bomb.png", "pixels")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_tag_is_followed(kind: str, turn: int) -> None:
    upright = np.zeros((48, 32), dtype=np.uint8)
    upright[:16, :16], upright[32:, :16] = 200, 100
    # How the sensor saw it, by the tag's definition: where row 0 and column 0 lie in the upright picture.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif)
    grey = pixels(decode(data, name="a")).astype(int)
    assert grey.shape == upright.shape
    assert np.abs(grey - upright).max() <= 3
    assert decode(data, name="a", at_least=16).size == ((16, 24) if kind == "JPEG" else (32, 48))


def test_an_orientation_tag_behind_the_pixels_is_followed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    data = encoded(Image.fromarray(RAMP), exif=exif)
    start, body = data.index(b"eXIf") - 4, chunk(b"eXIf", exif.tobytes()[6:])
    assert body in data
    late = data[:start] + data[start + len(body) : -12] + body + data[-12:]
    assert (pixels(decode(late, name="a.png")) == RAMP.T[::-1]).all()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_orientation_tag_does_not_cost_the_picture() -> None:
    data = encoded(Image.fromarray(RAMP), exif=b"Exif\0\0MM\0*\0\0\xff\xff" + b"\xff" * 9)
    assert (pixels(decode(data, name="a.png")) == RAMP).all()


def deep_png(colour_type: int, channels: int) -> bytes:
    """A PNG of 16 bits a channel of which 12 are used."""
    values = np.linspace(0, 4095, 64 * channels).astype(">u2").reshape(8, 8 * channels)
    lines = b"".join(b"\0" + line.tobytes() for line in values)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", 8, 8, 16, colour_type, 0, 0, 0),
        b"IDAT": zlib.compress(lines),
        b"IEND": b"",
    }
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_colour_is_refused_rather_than_nearly_black(colour_type: int, channels: int) -> None:
    data = deep_png(colour_type, channels)
    # Pillow alone keeps 16 of 4096 levels.
    assert np.asarray(Image.open(BytesIO(data)).convert("RGB")).max() <= 15
    with pytest.raises(BadImage) as caught:
        decode(data, name="a.png")
    one_line(caught.value, "a.png", "16 bits per colour", "16-bit grey")
    assert pixels(decode(deep_png(0, 1), name="a.png")).max() == 255


def test_at_least_reduces_only_jpegs_and_never_below() -> None:
    image = Image.fromarray(np.tile(RAMP, (50, 40)))  # 640 x 800
    assert decode(encoded(image, "JPEG"), name="a.jpg").size == (640, 800)
    assert decode(encoded(image, "JPEG"), name="a.jpg", at_least=150).size == (160, 200)
    assert decode(encoded(image, "JPEG"), name="a.jpg", at_least=400).size == (640, 800)
    assert decode(encoded(image), name="a.png", at_least=150).size == (640, 800)


def test_file_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path / "cache"))
    data = encoded(Image.fromarray(RAMP))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(data)
    (tmp_path / "images" / "b.png").write_bytes(data[:40])
    source = FileImages(np.array(["images/a.png", "images/b.png", "images/c.png"]), tmp_path)
    good, broken, missing, again = source.load(np.array([0, 1, 2, 0]))
    assert isinstance(good, Image.Image)
    assert isinstance(again, Image.Image)
    assert (pixels(good) == RAMP).all()
    assert isinstance(broken, BadImage)
    assert isinstance(missing, BadImage)
    one_line(broken, "b.png")
    one_line(missing, "c.png", "No such file")
    digest = hashlib.sha256(DECODER + hashlib.sha256(data).digest()).digest()
    assert source.keys(np.array([2, 0])) == [None, digest]
    assert source.describe(1) == "images/b.png"
    absolute = FileImages(np.array([str(tmp_path / "images" / "a.png")]))
    assert absolute.keys(np.array([0])) == [digest]
    assert isinstance(absolute.load(np.array([0]))[0], Image.Image)


def test_what_has_no_end_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETUNE_CACHE", str(tmp_path / "cache"))
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    # Would anybody open the pipe after all, it were at an end at once.
    threading.Thread(target=lambda: (tmp_path / "pipe.png").write_bytes(b""), daemon=True).start()
    (tmp_path / "device.png").symlink_to("/dev/null")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    names = ["pipe.png", "device.png", "link.png"]
    source = FileImages(np.array(names), tmp_path)
    *endless, linked = source.load(np.arange(3))
    for name, found in zip(names, endless, strict=False):
        assert isinstance(found, BadImage)
        one_line(found, name, "is not a regular file")
    assert isinstance(linked, Image.Image)
    digest = hashlib.sha256(DECODER + hashlib.sha256((tmp_path / "a.png").read_bytes()).digest()).digest()
    assert source.keys(np.arange(3)) == [None, None, digest]
    assert source.exists(np.arange(3)).tolist() == [False, False, True]
    os.close(os.open(tmp_path / "pipe.png", os.O_RDONLY | os.O_NONBLOCK))


def test_file_images_passes_at_least_on(tmp_path: Path) -> None:
    Image.new("L", (640, 800)).save(tmp_path / "a.jpg")
    (image,) = FileImages(np.array(["a.jpg"]), tmp_path).load(np.array([0]), at_least=150)
    assert isinstance(image, Image.Image)
    assert image.size == (160, 200)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"the NIH sample is not at {SAMPLE}")
def test_whole_sample_decodes() -> None:
    files = sorted((SAMPLE / "images").glob("*.png"))
    source = FileImages(np.array([file.name for file in files]), SAMPLE / "images")
    images = source.load(np.arange(len(files)))
    assert len(images) == 621
    assert all(isinstance(image, Image.Image) and image.mode == "L" for image in images)
