"""One radiograph comes out alike whatever file it lies in; DICOM files say in one line what is wrong."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retune.data.dicom import NOTE, dicom_size
from retune.data.exposure import expose
from retune.data.images import FileImages, decode
from retune.errors import BadImage, MissingPackage

pydicom = pytest.importorskip("pydicom")
from pydicom import uid  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import apply_modality_lut, apply_voi_lut, get_decoder, pixel_array  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402

# A subprocess below shows what users see.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def radiograph(height: int = 150, width: int = 120) -> np.ndarray:
    """Two dark lungs in a bright body on a dark ground, from 0 to 1 without sharp tails."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = 1 / (1 + np.exp(12 * (x**2 + 0.5 * y**2 - 0.7)))
    lungs = sum(np.exp(-(((x - side) / 0.25) ** 2 + (y / 0.6) ** 2) * 2) for side in (-0.45, 0.45))
    noise = np.random.default_rng(0).normal(0, 0.01, y.shape)
    picture = body * (1 - 0.6 * lungs) + 0.1 * np.sin(20 * y) * body + noise
    return np.asarray((picture - picture.min()) / np.ptp(picture))


PICTURE = radiograph()
LOW, HIGH = np.percentile(PICTURE, [0.5, 99.5])
GREY = np.rint(np.clip((PICTURE - LOW) / (HIGH - LOW), 0, 1) * 255).astype(np.uint8)


def deep(bits: int) -> np.ndarray:
    return np.rint(PICTURE * (2**bits - 1)).astype(np.uint16)


def file(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def dicom(
    pixels: np.ndarray | bytes,
    bits: int = 12,
    kind: str = "MONOCHROME2",
    syntax: str = uid.ExplicitVRLittleEndian,
    without: tuple[str, ...] = (),
    **header: object,
) -> bytes:
    """A digital radiograph as a device writes it; bytes for pixels are a compressed frame."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    data.Modality = "DX"
    data.Rows, data.Columns = PICTURE.shape if isinstance(pixels, bytes) else pixels.shape[:2]
    data.SamplesPerPixel = 3 if kind[:3] in ("RGB", "YBR") else 1
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = kind
    data.BitsAllocated = 8 if bits <= 8 else 16
    data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits - 1, 0
    data.PixelData = encapsulate([pixels]) if isinstance(pixels, bytes) else pixels.tobytes()
    data["PixelData"].VR = "OB" if isinstance(pixels, bytes) or bits <= 8 else "OW"
    for name, value in header.items():
        setattr(data, name, value)
    for name in without:
        delattr(data, name)
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def modality_lut() -> Sequence:
    """A table that maps 12 stored bits, reversed, onto 16."""
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.ModalityLUTType = "US"
    table.LUTData = (np.arange(4095, -1, -1, dtype=np.uint16) * 16).tobytes()
    table["LUTData"].VR = "OW"
    return Sequence([table])


def rle(pixels: np.ndarray, **tags: object) -> bytes:
    data = pydicom.dcmread(BytesIO(dicom(pixels)))
    data.compress(uid.RLELossless)
    for name, value in tags.items():
        setattr(data, name, value)
    buffer = BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()


def padded() -> bytes:
    """The left 30 columns are no picture, and hold what would be the brightest value."""
    stored = deep(12)
    stored[:, :30] = 4095
    stored[:, 30:] = np.minimum(stored[:, 30:], 4094)
    return dicom(stored, PixelPaddingValue=4095)


def palette() -> bytes:
    image = Image.fromarray(GREY).convert("P")
    assert image.mode == "P"
    return file(image)


RGB = np.stack([GREY] * 3, axis=2)
FILES: dict[str, Callable[[], bytes]] = {
    "png 8": lambda: file(Image.fromarray(GREY)),
    "png 12 of 16": lambda: file(Image.fromarray(deep(12))),
    "png 16": lambda: file(Image.fromarray(deep(16))),
    "png rgba": lambda: file(Image.fromarray(GREY).convert("RGBA")),
    "png palette": palette,
    "jpeg": lambda: file(Image.fromarray(GREY), "JPEG", quality=95),
    "jpeg rgb": lambda: file(Image.fromarray(RGB), "JPEG", quality=95),
    "dicom 8": lambda: dicom(GREY, 8),
    "dicom 8, MONOCHROME1": lambda: dicom(255 - GREY, 8, "MONOCHROME1"),
    "dicom 10": lambda: dicom(deep(10), 10),
    "dicom 12": lambda: dicom(deep(12)),
    "dicom 16": lambda: dicom(deep(16), 16),
    "dicom 12, big endian": lambda: dicom(deep(12).astype(">u2"), syntax=uid.ExplicitVRBigEndian),
    "dicom 12, implicit": lambda: dicom(deep(12), syntax=uid.ImplicitVRLittleEndian),
    "dicom 12, MONOCHROME1": lambda: dicom(4095 - deep(12), kind="MONOCHROME1"),
    "dicom 12, rubbish above": lambda: dicom(deep(12) | 0xA000),
    "dicom 12, rescaled": lambda: dicom(deep(12), RescaleSlope="0.37", RescaleIntercept="-1024"),
    "dicom 12, rescaled by -1": lambda: dicom(4095 - deep(12), RescaleSlope="-1", RescaleIntercept="4095"),
    "dicom 12, MONOCHROME1 by -1": lambda: dicom(
        deep(12), kind="MONOCHROME1", RescaleSlope="-1", RescaleIntercept="4095"
    ),
    "dicom 12, modality table": lambda: dicom(4095 - deep(12), ModalityLUTSequence=modality_lut()),
    "dicom 12, signed": lambda: dicom(
        (deep(12).astype(np.int16) - 2048) & 0x0FFF, PixelRepresentation=1, RescaleIntercept="2048"
    ),
    "dicom 16, signed": lambda: dicom(
        (deep(16).astype(np.int32) - 32768).astype(np.int16), 16, PixelRepresentation=1
    ),
    "dicom 12, window": lambda: dicom(deep(12), WindowCenter="2048", WindowWidth="4096"),
    "dicom 12, window that leaves nothing": lambda: dicom(deep(12), WindowCenter="30000", WindowWidth="10"),
    "dicom 12, two windows": lambda: dicom(deep(12), WindowCenter=["900", "2048"], WindowWidth=["9", "4096"]),
    "dicom 12, RLE": lambda: rle(deep(12)),
    "dicom 12, JPEG 2000": lambda: dicom(
        file(Image.fromarray(deep(12)), "JPEG2000", no_jp2=True), 16, syntax=uid.JPEG2000Lossless
    ),
    "dicom 8, JPEG": lambda: dicom(
        file(Image.fromarray(GREY), "JPEG", quality=95), 8, syntax=uid.JPEGBaseline8Bit
    ),
    "dicom 8, RGB": lambda: dicom(RGB, 8, "RGB"),
    "dicom 8, YBR JPEG": lambda: dicom(
        file(Image.fromarray(RGB), "JPEG", quality=95), 8, "YBR_FULL_422", uid.JPEGBaseline8Bit
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_one_radiograph_is_one_picture(name: str) -> None:
    image = decode(FILES[name](), name=name)
    assert image.mode == "L"
    grey = np.asarray(image).astype(float)
    assert grey.shape == GREY.shape
    assert np.abs(grey - GREY).mean() < (3 if "jpeg" in name.lower() else 1)
    assert np.corrcoef(grey.ravel(), GREY.ravel())[0, 1] > 0.999


def test_eight_bits_keep_their_values_and_twelve_keep_the_window() -> None:
    assert (np.asarray(decode(dicom(GREY, 8), name="a.dcm")) == GREY).all()
    assert (np.asarray(decode(dicom(GREY // 2, 8), name="a.dcm")) == GREY // 2).all()
    ramp = np.arange(4000, dtype=np.uint16).reshape(80, 50)
    expected = np.rint(np.clip((np.arange(4000) - 20) / 3960, 0, 1) * 255)
    grey = np.asarray(decode(dicom(ramp), name="a.dcm")).ravel()
    assert np.abs(grey - expected).max() <= 1


@pytest.mark.parametrize(
    "make",
    [
        padded,
        lambda: dicom(
            np.where(np.arange(120) < 30, np.arange(120) % 7, np.maximum(4095 - deep(12), 7)).astype("u2"),
            kind="MONOCHROME1",
            PixelPaddingValue=0,
            PixelPaddingRangeLimit=6,
        ),
    ],
    ids=["a value", "a range"],
)
def test_padding_is_black_and_does_not_set_the_exposure(make: Callable[[], bytes]) -> None:
    grey = np.asarray(decode(make(), name="a.dcm")).astype(float)
    assert (grey[:, :30] == 0).all()
    low, high = np.percentile(PICTURE[:, 30:], [0.5, 99.5])
    expected = np.clip((PICTURE[:, 30:] - low) / (high - low), 0, 1) * 255
    assert np.abs(grey[:, 30:] - expected).mean() < 1


def test_nothing_but_padding_is_black() -> None:
    grey = decode(dicom(np.full((20, 20), 9, dtype=np.uint16), PixelPaddingValue=9), name="a.dcm")
    assert not np.asarray(grey).any()


@pytest.mark.parametrize(("kind", "grey"), [("MONOCHROME2", 64), ("MONOCHROME1", 191)])
def test_a_constant_picture_keeps_its_brightness(kind: str, grey: int) -> None:
    data = dicom(np.full((20, 20), 1024, dtype=np.uint16), kind=kind)
    assert set(np.asarray(decode(data, name="a.dcm")).ravel().tolist()) == {grey}


def junk(syntax: str, bits: int = 12) -> bytes:
    return dicom(b"\xff\xd8 no picture \xff\xd9", bits, syntax=syntax)


def deflated() -> bytes:
    plain = dicom(deep(12)).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    # The group length counts the two letters more.
    at = plain.index(b"\x02\0\0\0UL\x04\0") + 8
    length = int.from_bytes(plain[at : at + 4], "little") + 2
    place = plain.index(b"\x02\0\x10\0UI") + 6
    head = plain[:at] + length.to_bytes(4, "little") + plain[at + 4 : place] + (22).to_bytes(2, "little")
    rest = plain[place + 2 :]
    end = at + 4 + length - place - 2
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return head + rest[:end] + packer.compress(rest[end:]) + packer.flush()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (dicom(deep(12), without=("PixelData",)), ["holds no pixels"]),
        (dicom(np.stack([deep(12)] * 2), NumberOfFrames=2, Rows=150, Columns=120), ["2 frames"]),
        (dicom(deep(12), Rows=60_000, Columns=60_000), ["claims more than", "pixels"]),
        (dicom(deep(12), Rows=3000, Columns=3000, NumberOfFrames=100), ["claims more than", "pixels"]),
        (dicom(deep(12), Rows=300), ["cannot be decoded"]),
        (dicom(deep(12), without=("Rows",)), ["cannot be decoded", "Rows"]),
        (dicom(deep(12), NumberOfFrames="1", Rows=0), ["cannot be decoded"]),
        (dicom(GREY, 8, "PALETTE COLOR"), ["'PALETTE COLOR'", "MONOCHROME2"]),
        (dicom(RGB.astype(np.uint16), 12, "RGB"), ["12 bits per colour"]),
        (dicom(np.zeros((9, 9), np.uint32), BitsAllocated=32, BitsStored=32, HighBit=31), ["32 bits"]),
        (deflated(), ["deflated"]),
        (junk(uid.JPEG2000Lossless), ["cannot be decoded"]),
        (junk(uid.MPEG2MPML), ["MPEG2"]),
        (b"\0" * 128 + b"DICM", ["holds no pixels"]),
        (b"\0" * 128 + b"DICM" + b"\xff" * 400, ["holds no pixels"]),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(data: bytes, words: list[str]) -> None:
    with pytest.raises(BadImage) as caught:
        decode(data, name="a.dcm")
    line = str(caught.value)
    assert line.startswith("a.dcm: ")
    assert "\n" not in line
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("syntax", "package"),
    [
        (uid.JPEGLosslessSV1, "python-gdcm"),
        (uid.JPEGLSLossless, "python-gdcm"),
        (uid.JPEGExtended12Bit, "pylibjpeg-libjpeg"),
        (uid.HTJ2KLossless, "pylibjpeg-openjpeg"),
    ],
)
def test_a_missing_decoder_is_named(syntax: str, package: str) -> None:
    if set(get_decoder(syntax).available_plugins) - {"pillow"}:
        pytest.skip("a decoder is installed")
    with pytest.raises(MissingPackage) as caught:
        decode(junk(syntax), name="a.dcm")
    line = str(caught.value)
    assert syntax in line
    assert uid.UID(syntax).name in line
    assert f"pip install {package}" in line or f"pip install pylibjpeg {package}" in line


def test_without_pydicom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dicom(deep(12))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingPackage, match=r"pip install .*\[dicom\]'"):
        decode(data, name="a.dcm")


def attempt(data: bytes) -> Image.Image | BadImage:
    try:
        return decode(data, name="a.dcm")
    except BadImage as error:
        return error


@pytest.mark.parametrize("name", ["dicom 12", "dicom 12, RLE", "dicom 12, JPEG 2000", "dicom 8, JPEG"])
def test_cut_off_anywhere_is_never_a_partial_picture(name: str) -> None:
    data = FILES[name]()
    whole = np.asarray(decode(data, name="a.dcm"))
    refused = 0
    cuts = sorted(
        {*range(0, 1000, 37), *range(1000, len(data), len(data) // 40), *range(len(data) - 9, len(data))}
    )
    for cut in cuts:
        found = attempt(data[:cut])
        if isinstance(found, BadImage):
            refused += "\n" not in str(found)
        else:
            # A compressed file that lost no more than its closing tag is whole.
            assert (np.asarray(found) == whole).all(), cut
    assert refused >= len(cuts) - 9


def test_file_images_tell_dicom_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(dicom(deep(12)))
    (image,) = FileImages(np.array(["a"]), tmp_path).load(np.array([0]), at_least=64)
    assert isinstance(image, Image.Image)
    assert np.abs(np.asarray(image).astype(float) - GREY).mean() < 1


def test_odd_headers_are_read_in_silence(tmp_path: Path) -> None:
    data = dicom(deep(12), WindowWidth="4096", PatientID="1").replace(b"1.2.3.4\0", b"1.02.x\0\0")
    (tmp_path / "odd.dcm").write_bytes(data)
    read = "import sys, pydicom; pydicom.dcmread(sys.argv[1]).SOPInstanceUID"
    code = (
        "import sys; from retune.data.images import decode\n"
        "print(decode(open(sys.argv[1], 'rb').read(), name='odd.dcm').size)\n"
        f"{read}"
    )
    arguments = [str(tmp_path / "odd.dcm")]
    loud = subprocess.run([sys.executable, "-c", read, *arguments], capture_output=True, text=True)
    quiet = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert "Warning" in loud.stderr
    assert (quiet.stdout, quiet.stderr) == ("(120, 150)\n", "")


def test_images_do_not_need_pydicom_until_a_dicom_file_comes() -> None:
    code = "import sys, retune.data.images; sys.exit('pydicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def lut(values: np.ndarray, first: int = 0, bits: int = 16, vr: str = "OW") -> Dataset:
    """A table of a header, as an item of its sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(values) % 65536, first, bits])
    item.ModalityLUTType = "US"
    item.add_new("LUTData", vr, values.astype("<u2").tobytes() if vr == "OW" else values.tolist())
    return item


def seen(data: bytes) -> np.ndarray:
    return np.asarray(decode(data, name="a.dcm")).astype(float)


def likeness(data: bytes) -> float:
    return float(np.corrcoef(seen(data).ravel(), GREY.ravel())[0, 1])


def displayed(data: bytes) -> np.ndarray:
    """What pydicom shows: the modality's step, the first VOI LUT, and darkest where MONOCHROME1 is largest."""
    header = pydicom.dcmread(BytesIO(data))
    shown = apply_modality_lut(pixel_array(header), header)
    shown = apply_voi_lut(np.rint(shown).astype(np.int32), header).astype(float)
    return -shown if header.PhotometricInterpretation == "MONOCHROME1" else shown


SLOPES = {"no slope": {}, "slope 1": {"RescaleSlope": "1"}, "slope -1": {"RescaleSlope": "-1"}}


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("stored", [8, 12, -12])
@pytest.mark.parametrize("step", [*SLOPES, "table up", "table down"])
@pytest.mark.parametrize("voi", ["none", "up", "down"])
def test_every_step_to_the_display_may_turn_the_picture_round(
    kind: str, stored: int, step: str, voi: str
) -> None:
    bits = abs(stored)
    top = 2**bits - 1
    lowest = -(2 ** (bits - 1)) if stored < 0 else 0
    tags: dict[str, object] = {"PixelRepresentation": int(stored < 0)}
    if step in SLOPES:
        intercept = top + 2 * lowest if step == "slope -1" else 0
        tags |= {**SLOPES[step], **({"RescaleIntercept": str(intercept)} if SLOPES[step] else {})}
        first = lowest
    else:
        table = np.linspace(0, top, top + 1).round()
        tags["ModalityLUTSequence"] = Sequence([lut(table if step == "table up" else table[::-1], lowest)])
        first = 0
    pixels = deep(bits).astype(np.int32) + lowest
    shape = "INVERSE" if kind == "MONOCHROME1" else "IDENTITY"
    pixels = pixels.astype({8: np.uint8, 12: np.uint16, -12: np.int16}[stored])
    for entries in (8, 12, 16):
        table = np.linspace(0, 2**entries - 1, top + 1).round()

        def made(claimed: int, table: np.ndarray = table[:: -1 if voi == "down" else 1]) -> bytes:
            luts = {} if voi == "none" else {"VOILUTSequence": Sequence([lut(table, first, claimed)])}
            return dicom(pixels, bits, kind, PresentationLUTShape=shape, **tags, **luts)

        # With the same entries called 16 bits: pydicom errs where 8 bits have more than 256 entries.
        agreement = np.corrcoef(seen(made(entries)).ravel(), displayed(made(16)).ravel())[0, 1]
        assert agreement > 0.97, entries
        assert NOTE not in decode(made(entries), name="a.dcm").info


def test_of_a_voi_lut_the_direction_counts_and_not_the_shape() -> None:
    down = 65535 - (np.arange(4096) / 4095) ** 3 * 65535
    data = dicom(4095 - deep(12), VOILUTSequence=Sequence([lut(down)]), WindowCenter="1", WindowWidth="1")
    assert (seen(data) == seen(dicom(4095 - deep(12), kind="MONOCHROME1"))).all()
    plain = dicom(255 - GREY, 8, VOILUTSequence=Sequence([lut(np.arange(255, -1, -1), 0, 8)]))
    assert (seen(plain) == GREY).all()


RAMP = np.arange(4096)
ODD_TABLES: dict[str, tuple[list[Dataset], float]] = {
    "the first of two, down": ([lut(RAMP[::-1] * 16), lut(RAMP * 16)], -1),
    "the first of two, up": ([lut(RAMP * 16), lut(RAMP[::-1] * 16)], 1),
    # Up and down again, ending lower than it began.
    "down by its ends": (
        [lut(np.where(RAMP < 3000, 20000 + RAMP, np.maximum(23000 - 40 * (RAMP - 3000), 0)))],
        -1,
    ),
    "up by its ends": ([lut(np.where(RAMP < 1000, 20000 - RAMP, 19000 + 10 * (RAMP - 1000)))], 1),
    # Beyond the values in use it falls back to 0.
    "up where it is used": ([lut(np.where(RAMP < 4090, RAMP * 8, 0))], 1),
    "in use from the middle on": ([lut(np.r_[np.zeros(2000), RAMP[::-1] * 8], -2000)], -1),
    "flat at both ends": ([lut(np.select([RAMP < 1000, RAMP < 3000], [50, 9]) + 50 * (RAMP > 4000))], -1),
    "constant": ([lut(RAMP * 0 + 7)], 1),
    "longer than the values": ([lut(np.arange(65536)[::-1])], -1),
    "a list of numbers": ([lut(RAMP[::-1] * 16, vr="US")], -1),
}


@pytest.mark.parametrize("name", ODD_TABLES)
def test_odd_voi_luts_go_by_their_ends_over_the_values_in_use(name: str) -> None:
    items, direction = ODD_TABLES[name]
    stored = np.clip(deep(12), 0, 4080)
    stored[0, 0] = 4095  # A burnt-in marker.
    assert likeness(dicom(stored, VOILUTSequence=Sequence(items))) * direction > 0.99


def test_a_voi_lut_counts_where_the_standard_puts_it_and_nowhere_else() -> None:
    down = Sequence([lut(RAMP[::-1] * 16)])
    macro, group = Dataset(), Dataset()
    macro.VOILUTSequence = down
    group.FrameVOILUTSequence = Sequence([macro])
    for place in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        assert likeness(dicom(deep(12), **{place: Sequence([group])})) < -0.99
    header = pydicom.dcmread(BytesIO(dicom(deep(12))))
    block = header.private_block(0x0029, "A VENDOR", create=True)
    block.add_new(0x10, "SQ", down)
    icon = Dataset()
    icon.VOILUTSequence = down
    header.IconImageSequence = Sequence([icon])
    buffer = BytesIO()
    header.save_as(buffer)
    assert likeness(buffer.getvalue()) > 0.99


def test_a_voi_lut_that_cannot_be_read_is_left_out_and_said() -> None:
    short, bare = lut(RAMP[::-1]), Dataset()
    short.LUTDescriptor = [9000, 0, 16]
    bare.LUTDescriptor = [4096, 0, 16]
    for item in (short, bare, Dataset()):
        image = decode(dicom(deep(12), VOILUTSequence=Sequence([item])), name="a.dcm")
        assert np.abs(np.asarray(image).astype(float) - GREY).mean() < 1
        assert "VOI LUT cannot be read" in image.info[NOTE]
    assert likeness(dicom(deep(12), VOILUTSequence=Sequence([]))) > 0.99


@pytest.mark.parametrize(
    ("kind", "shape", "odd"),
    [
        ("MONOCHROME1", "INVERSE", False),
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "LIN OD", False),
        ("MONOCHROME2", "", False),
    ],
)
def test_the_photometric_interpretation_decides_and_a_contradiction_is_said(
    kind: str, shape: str, odd: bool
) -> None:
    data = dicom(
        deep(12) if kind == "MONOCHROME2" else 4095 - deep(12), kind=kind, PresentationLUTShape=shape
    )
    image = decode(data, name="a.dcm")
    assert np.abs(np.asarray(image).astype(float) - GREY).mean() < 1
    note = image.info.get(NOTE, "")
    assert (kind in note and f"PresentationLUTShape {shape}" in note) == odd


def pressed(pixels: np.ndarray, codec: str, bits: int, **tags: object) -> bytes:
    """A file compressed by GDCM, whose codestream says ``bits`` whatever the tags say."""
    gdcm = pytest.importorskip("gdcm")
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    with tempfile.TemporaryDirectory() as folder:
        name = f"{folder}/a.dcm"
        Path(name).write_bytes(dicom(pixels, bits, PixelRepresentation=int(pixels.dtype.kind == "i")))
        reader.SetFileName(name)
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, codec)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(name)
        assert writer.Write()
        header = pydicom.dcmread(name)
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    buffer = BytesIO()
    header.save_as(buffer)
    return buffer.getvalue()


CODECS = ("JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless")


def stored_too_small() -> Iterator[tuple[str, Callable[[], bytes]]]:
    for declared, true, signed in itertools.product((8, 10, 12, 13), (12, 14, 16), (False, True)):
        if declared >= true:
            continue
        tags = {"BitsStored": declared, "HighBit": declared - 1, "PixelRepresentation": int(signed)}
        pixels = deep(true).astype(np.int32) - (signed << (true - 1))
        whole = pixels.astype(np.int16 if signed else np.uint16)
        name = f"{declared} of {true}{' signed' if signed else ''}"
        yield f"native, {name}", lambda w=whole, t=tags: dicom(w, 16, **t)
        yield f"RLE, {name}", lambda w=whole, t=tags: rle(w, **t)
        if signed and true < 16:
            cut = (pixels & (2**true - 1)).astype(np.uint16)
            yield f"native, {name} without a sign above", lambda c=cut, t=tags: dicom(c, 16, **t)
        for codec in CODECS:
            yield (
                f"{codec}, {name}",
                lambda w=whole, c=codec, b=true, t=tags: pressed(w, c, b, **t),
            )


TOO_SMALL = dict(stored_too_small())


@pytest.mark.parametrize("name", TOO_SMALL)
def test_pixels_of_more_bits_than_the_header_says_keep_them(name: str) -> None:
    image = decode(TOO_SMALL[name](), name="a.dcm")
    assert np.abs(np.asarray(image).astype(float) - GREY).mean() < 1
    assert "BitsStored (0028,0101)" in image.info[NOTE]


def overlay() -> np.ndarray:
    """Letters and a frame, as bits of a picture."""
    bits = np.zeros(PICTURE.shape, dtype=np.uint16)
    bits[10:40:4, 10:60], bits[60:140, 100:103], bits[100] = 1, 1, 1
    return bits


def foreign_bits() -> Iterator[tuple[str, bytes]]:
    random = np.random.default_rng(1).integers(0, 16, PICTURE.shape, dtype=np.uint16)
    plane = {0x60000100: ("US", 16), 0x60000102: ("US", 12)}
    for signed in (False, True):
        tags = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed)}
        pixels = ((deep(12).astype(np.int32) - (signed << 11)) & 0xFFF).astype(np.uint16)
        sign = " signed" if signed else ""
        for place in (12, 15):
            yield f"an overlay in bit {place}{sign}", dicom(pixels | overlay() << place, 16, **tags)
        yield f"two overlays{sign}", dicom(pixels | overlay() << 13 | overlay()[::-1] << 14, 16, **tags)
        yield f"random bits{sign}", dicom(pixels | random << 12, 16, **tags)
        yield f"the same bits everywhere{sign}", dicom(pixels | 0x9000, 16, **tags)
        yield f"RLE, random bits{sign}", rle(pixels | random << 12, **tags)
        header = pydicom.dcmread(BytesIO(dicom(pixels | (deep(1) << 12), 16, **tags)))
        for tag, (vr, value) in plane.items():
            header.add_new(tag, vr, value)
        buffer = BytesIO()
        header.save_as(buffer)
        yield f"an overlay that is declared{sign}", buffer.getvalue()
    # The overlay shares the pixels with numbers of more bits than are declared.
    yield "an overlay above 14 bits", dicom(deep(14) | overlay() << 15, 16, BitsStored=12, HighBit=11)


FOREIGN = dict(foreign_bits())


@pytest.mark.parametrize("name", FOREIGN)
def test_bits_above_the_pixels_are_not_shown(name: str) -> None:
    assert np.abs(seen(FOREIGN[name]) - GREY).mean() < 1


@pytest.mark.parametrize("below", [0, 15])
@pytest.mark.parametrize("signed", [False, True])
def test_a_high_bit_says_that_pixels_lie_in_the_upper_bits(signed: bool, below: int) -> None:
    pixels = ((deep(12).astype(np.int32) - (signed << 11)) * 16).astype(np.int16) | below
    data = dicom(pixels, 16, BitsStored=12, HighBit=15, PixelRepresentation=int(signed))
    image = decode(data, name="a.dcm")
    assert np.abs(np.asarray(image).astype(float) - GREY).mean() < 1
    assert NOTE not in image.info
    eight = GREY.astype(np.uint16) << 8 | below
    assert (seen(dicom(eight, 16, BitsStored=8, HighBit=15)) == GREY).all()
    # The same word above pixels that lie at the bottom all the same.
    assert (seen(dicom(deep(12), 16, BitsStored=12, HighBit=15)) == seen(dicom(deep(12)))).all()
    assert np.abs(seen(dicom(deep(14), 16, BitsStored=12, HighBit=15)) - GREY).mean() < 1


def test_padding_beyond_the_bits_stored_is_padding() -> None:
    stored = deep(12)
    stored[:, :30] = 40000
    data = dicom(stored, PixelPaddingValue=40000)
    grey = seen(data)
    assert (grey[:, :30] == 0).all()
    low, high = np.percentile(PICTURE[:, 30:], [0.5, 99.5])
    expected = np.clip((PICTURE[:, 30:] - low) / (high - low), 0, 1) * 255
    assert np.abs(grey[:, 30:] - expected).mean() < 1


def test_pixels_that_do_not_tell_their_bits_need_another_witness() -> None:
    noise = np.random.default_rng(0).integers(0, 2**14, (64, 64), dtype=np.uint16)
    noise[0, 0] = 16383
    tags = {"BitsStored": 12, "HighBit": 11}
    with pytest.raises(BadImage, match=r"^a\.dcm: .*BitsStored \(0028,0101\).*12") as caught:
        decode(dicom(noise, 16, **tags), name="a.dcm")
    assert "\n" not in str(caught.value)
    expected = expose(noise << 2)
    assert (seen(dicom(noise, 16, LargestImagePixelValue=16383, **tags)) == expected).all()
    wide = dicom(deep(16).astype(np.uint32) * 16, 16, BitsAllocated=32, **tags)
    with pytest.raises(BadImage, match=r"BitsStored \(0028,0101\)"):
        decode(wide, name="a.dcm")
    foreign = dicom(deep(12).astype(np.uint32) | 7 << 20, 16, BitsAllocated=32, **tags)
    assert np.abs(seen(foreign) - GREY).mean() < 1
    stream = pressed(noise, "JPEG2000Lossless", 14, **tags)
    assert (seen(stream) == expected).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("down", [False, True])
def test_a_modality_lut_may_have_entries_of_any_number_of_bits(bits: int, down: bool) -> None:
    table = np.linspace(0, 2**bits - 1, 4096).round()
    tables = Sequence([lut(table[::-1] if down else table, 0, bits)])
    grey = seen(dicom(4095 - deep(12) if down else deep(12), ModalityLUTSequence=tables))
    assert np.abs(grey - GREY).mean() < (2 if bits == 8 else 1)


def packed(count: int, signed: bool = False) -> Dataset:
    """Entries of 8 bits, two to a word."""
    item = lut(np.zeros(count), -(count // 2) if signed else 0, 8)
    item.LUTData = np.linspace(255, 0, count).round().astype(np.uint8).tobytes() + b"\0" * (count % 2)
    return item


DOWN = RAMP[::-1] * 16
OTHER_TABLES: dict[str, Callable[[], bytes]] = {
    "a list": lambda: dicom(4095 - deep(12), ModalityLUTSequence=Sequence([lut(DOWN, vr="US")])),
    "65,536 entries": lambda: dicom(
        65535 - deep(16), 16, ModalityLUTSequence=Sequence([lut(np.arange(65536)[::-1])])
    ),
    "two in a word": lambda: dicom(4095 - deep(12), ModalityLUTSequence=Sequence([packed(4096)])),
    "two in a word, an odd number": lambda: dicom(
        np.minimum(4094, 4095 - deep(12)), ModalityLUTSequence=Sequence([packed(4095)])
    ),
    "from a negative value": lambda: dicom(
        (2047 - deep(12).astype(np.int16)),
        PixelRepresentation=1,
        ModalityLUTSequence=Sequence([lut(DOWN, -2048)]),
    ),
    "from a negative value, its sign lost": lambda: dicom(
        (2047 - deep(12).astype(np.int16)),
        PixelRepresentation=1,
        ModalityLUTSequence=Sequence([lut(DOWN, 65536 - 2048)]),
    ),
    "65,536 entries from a negative value": lambda: dicom(
        (32767 - deep(16).astype(np.int32)).astype(np.int16),
        16,
        PixelRepresentation=1,
        ModalityLUTSequence=Sequence([lut(np.arange(65536)[::-1], -32768)]),
    ),
    "shorter than the values": lambda: dicom(
        5000 - deep(12), 16, ModalityLUTSequence=Sequence([lut(DOWN, 905)])
    ),
    "implicit": lambda: dicom(
        4095 - deep(12), syntax=uid.ImplicitVRLittleEndian, ModalityLUTSequence=Sequence([lut(DOWN, vr="OW")])
    ),
    "big endian": lambda: dicom(
        (4095 - deep(12)).astype(">u2"),
        syntax=uid.ExplicitVRBigEndian,
        ModalityLUTSequence=Sequence([lut(DOWN.astype("u2").byteswap())]),
    ),
}


@pytest.mark.parametrize("name", OTHER_TABLES)
def test_a_modality_lut_may_lie_in_the_file_in_several_ways(name: str) -> None:
    assert np.abs(seen(OTHER_TABLES[name]()) - GREY).mean() < 1


def test_a_modality_lut_that_lacks_entries_is_named() -> None:
    short = lut(DOWN)
    short.LUTDescriptor = [5000, 0, 12]
    with pytest.raises(BadImage, match=r"^a\.dcm: has a Modality LUT of 4,096 entries that claims 5,000"):
        decode(dicom(deep(12), ModalityLUTSequence=Sequence([short])), name="a.dcm")


@pytest.mark.parametrize("kind", ["MONOCHROME2", "YBR_FULL_422"])
def test_a_jpeg_damaged_inside_a_dicom_file_is_refused(kind: str) -> None:
    whole = file(Image.fromarray(GREY if kind == "MONOCHROME2" else RGB), "JPEG", quality=95)
    middle = len(whole) // 2
    for damaged in (whole[:middle] + b"\xff\xd9", whole[:middle] + bytes(2000) + whole[middle + 2000 :]):
        with pytest.raises(BadImage, match=r"^a\.dcm: is damaged inside \(.*JPEG data"):
            decode(dicom(damaged, 8, kind, uid.JPEGBaseline8Bit), name="a.dcm")


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_lossless_jpeg_damaged_inside_a_dicom_file_is_refused(bits: int) -> None:
    pixels = deep(bits).astype(np.uint8 if bits == 8 else np.uint16)
    whole = pressed(pixels, "JPEGLosslessProcess14_1", bits)
    assert np.abs(seen(whole) - (pixels if bits == 8 else GREY)).mean() < 1
    middle = len(whole) // 2
    with pytest.raises(BadImage, match=r"^a\.dcm: is damaged inside \(.*JPEG data"):
        decode(whole[:middle] + bytes(500) + whole[middle + 500 :], name="a.dcm")


def bare(syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    """The elements alone, as from a network, without a preamble and what stands in group 2."""
    pixels = deep(12).astype(">u2" if syntax == uid.ExplicitVRBigEndian else "<u2")
    buffer = BytesIO()
    header = pydicom.dcmread(BytesIO(dicom(pixels, syntax=syntax)))
    encoding = (syntax == uid.ImplicitVRLittleEndian, syntax != uid.ExplicitVRBigEndian)
    del header.file_meta
    header.preamble = None
    header.save_as(buffer, implicit_vr=encoding[0], little_endian=encoding[1])
    return buffer.getvalue()


WITHOUT_PREAMBLE: dict[str, Callable[[], bytes]] = {
    "group 2 first": lambda: dicom(deep(12))[132:],
    "group 2 first, implicit": lambda: dicom(deep(12), syntax=uid.ImplicitVRLittleEndian)[132:],
    "group 2 first, RLE": lambda: rle(deep(12))[132:],
    "only DICM": lambda: dicom(deep(12))[128:],
    "no DICM": lambda: bytes(128) + dicom(deep(12))[132:],
    "explicit": bare,
    "implicit": lambda: bare(uid.ImplicitVRLittleEndian),
    "big endian": lambda: bare(uid.ExplicitVRBigEndian),
    "no DICM, no group 2": lambda: bytes(128) + bare(),
    "no group 2": lambda: bytes(128) + b"DICM" + bare(),
}


@pytest.mark.parametrize("name", WITHOUT_PREAMBLE)
def test_a_file_without_its_preamble_is_known_by_its_first_element(name: str) -> None:
    assert (seen(WITHOUT_PREAMBLE[name]()) == seen(dicom(deep(12)))).all()


def test_the_size_is_read_from_the_header_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    whole = dicom(deep(12)[:40])
    for data in (whole, whole[: len(whole) // 2], whole[132:]):  # the second is cut off within its pixels
        path.write_bytes(data)
        assert dicom_size(path) == (40, 120)
    for data, words in (
        (deflated(), "deflated"),
        (b"P2 1 1", "is not a DICOM"),
        (whole[:300], "cannot be decoded"),
    ):
        path.write_bytes(data)
        with pytest.raises(BadImage, match=f"^{path}: .*{words}"):
            dicom_size(path)


def test_what_only_begins_like_dicom_is_refused() -> None:
    compressed = rle(deep(12))
    length = int.from_bytes(compressed[140:144], "little")
    with pytest.raises(BadImage, match=r"names no transfer syntax \(0002,0010\)"):
        decode(compressed[144 + length :], name="a.dcm")
    with pytest.raises(BadImage, match="deflated"):
        decode(deflated()[132:], name="a.dcm")
    junk = np.random.default_rng(0).bytes(3000)
    for start in (b"\x08\0", b"\x08\0\x05\0CS", b"\x08\0\x05\0CS\x02\0", b"\x02\0\0\0UL\4\0", b"DICM", b""):
        with pytest.raises(BadImage) as caught:
            decode(start + junk, name="a.dcm")
        assert str(caught.value).startswith("a.dcm: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_a_sign_that_the_header_gets_wrong_is_seen_in_the_pixels_and_said(bits: int, signed: bool) -> None:
    numbers = deep(bits).astype(np.int32) - (signed << (bits - 1))
    stored = (numbers & (2**bits - 1)).astype(np.uint16)
    wrong = decode(dicom(stored, bits, BitsAllocated=16, PixelRepresentation=int(not signed)), name="a.dcm")
    assert np.abs(np.asarray(wrong).astype(float) - GREY).mean() < 1
    assert "PixelRepresentation (0028,0103)" in wrong.info[NOTE]
    right = decode(dicom(stored, bits, BitsAllocated=16, PixelRepresentation=int(signed)), name="a.dcm")
    assert NOTE not in right.info


@pytest.mark.parametrize("signed", [False, True])
def test_a_bright_frame_is_no_wrong_sign(signed: bool) -> None:
    framed = (deep(12) * 0.4).astype(np.int32)
    framed[:20] = framed[:, :20] = framed[:, -20:] = 4095
    stored = ((framed - (signed << 11)) & 0xFFF).astype(np.uint16)
    image = decode(dicom(stored, 12, PixelRepresentation=int(signed)), name="a.dcm")
    assert NOTE not in image.info
    assert np.asarray(image)[0, 0] == 255


def test_a_sign_need_not_be_repeated_in_unused_bits() -> None:
    noise = np.random.default_rng(0).integers(0, 1024, (64, 64), dtype=np.uint16)
    expected = expose(((noise + 512) & 1023) << 6)
    assert (seen(dicom(noise, 10, PixelRepresentation=1)) == expected).all()


def test_a_voi_lut_that_no_value_reaches_counts_by_its_own_ends() -> None:
    rising, falling = np.arange(100), np.arange(100)[::-1]
    for table, sign in ((rising, 1), (falling, -1)):
        data = dicom(deep(10), 12, VOILUTSequence=Sequence([lut(table, first=2000)]))
        assert np.sign(likeness(data)) == sign


def test_a_long_list_in_a_big_endian_file_is_read_in_its_order() -> None:
    table = Dataset()
    table.LUTDescriptor = [0, 0, 16]
    table.ModalityLUTType = "US"
    table.add_new(0x00283006, "UN", np.arange(65535, -1, -1).astype(">u2").tobytes())
    pixels = (65535 - deep(16)).astype(">u2")
    data = dicom(pixels, 16, syntax=uid.ExplicitVRBigEndian, ModalityLUTSequence=Sequence([table]))
    assert np.abs(seen(data) - GREY).mean() < 1


@pytest.mark.parametrize("codec", ["JPEG2000Lossless", "JPEGBaselineProcess1"])
def test_a_damaged_header_inside_is_refused_and_ends_no_process(codec: str) -> None:
    bits = 8 if codec.startswith("JPEGB") else 12
    sound = pressed(GREY if bits == 8 else deep(12), codec, bits)
    start = sound.index(b"\xff\x4f\xff\x51" if bits == 12 else b"\xff\xd8\xff")
    for at, count in itertools.product((2, 12, 27, 32, 40), (4, 16, 64)):
        for harm in (
            sound[: start + at] + sound[start + at + count :] + bytes(count),
            sound[: start + at] + sound[start + at : start + at + count][::-1] + sound[start + at + count :],
        ):
            outcome = attempt(harm)
            assert isinstance(outcome, BadImage) or outcome.size == PICTURE.shape[::-1]
