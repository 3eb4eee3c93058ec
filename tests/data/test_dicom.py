"""One radiograph comes out alike whatever file it lies in; DICOM files say in one line what is wrong."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retune.data.images import FileImages, decode
from retune.errors import BadImage, MissingPackage

pydicom = pytest.importorskip("pydicom")
from pydicom import uid  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.pixels import get_decoder  # noqa: E402
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


def rle(pixels: np.ndarray) -> bytes:
    data = pydicom.dcmread(BytesIO(dicom(pixels)))
    data.compress(uid.RLELossless)
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
