"""Radiographs from DICOM files, as well exposed 8-bit grey; needs pydicom."""

from __future__ import annotations

import warnings
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from retune.data.dataset import Array, BoolArray
from retune.errors import BadImage, MissingPackage, install

if TYPE_CHECKING:
    import pydicom

DEFLATED: Final = "1.2.840.10008.1.2.1.99"
EXTENDED_JPEG: Final = "1.2.840.10008.1.2.4.51"
HIGH_THROUGHPUT: Final = "1.2.840.10008.1.2.4.20"
"""What the transfer syntaxes of high-throughput JPEG 2000 begin with."""
COLOURS: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


WINDOW: Final = (0.005, 0.995)
"""Share of a deep picture's pixels that turn black and white: burnt-in markers must not set the exposure."""


def is_dicom(data: bytes) -> bool:
    """Whether a file's bytes begin as a DICOM file does, whatever the file is called."""
    return data[128:132] == b"DICM"


def decode_dicom(data: bytes, *, name: str, max_pixels: int | None = None) -> Image.Image:
    """Decode a DICOM file of one frame as 8-bit grey.

    Pictures of more than 8 bits are exposed by :func:`retune.data.dicom.expose`, like any other
    deep picture. The file's own window (VOI LUT) is left alone: it suits a person at a display, many
    files have none, others several, and pictures of one data set would be exposed by different rules.
    A rescale slope and intercept therefore count by their sign alone. MONOCHROME1 is inverted, padding
    is black, colour becomes luminance; 8-bit pictures keep their values.

    Args:
        data: The file's bytes.
        name: The picture's name, for messages.
        max_pixels: Refuse pictures that claim more.

    Returns:
        A picture of mode ``"L"``.

    Raises:
        BadImage: If the file holds no such picture or is damaged.
        MissingPackage: If pydicom or a decoder is not installed.
    """
    try:
        import pydicom
    except ImportError:
        fix = install("dicom")
        raise MissingPackage("is a DICOM file, and pydicom is not installed", where=name, fix=fix) from None
    _hush()
    try:
        _refuse_deflated(data)
        header = pydicom.dcmread(BytesIO(data))
        _check(header, max_pixels)
        return Image.fromarray(_grey(header))
    except (BadImage, MissingPackage) as error:
        raise type(error)(error.what, where=name, fix=error.fix) from error.__cause__
    except Exception as error:  # Damaged files raise nearly anything.
        raise BadImage(f"cannot be decoded ({error})", where=name, fix="fetch it again") from error


@cache
def _hush() -> None:
    """Silence what pydicom says of odd headers: which of them matter is told in one line by us.

    For the whole process, since ``warnings.catch_warnings`` is not safe in the threads that decode.
    """
    warnings.filterwarnings("ignore", module=r"pydicom\b|retune\.data\.dicom\b")


def _refuse_deflated(data: bytes) -> None:
    """Refuse what pydicom would inflate whole, however large it becomes, before anything can be checked."""
    from pydicom.filereader import read_dataset

    file = BytesIO(data)
    file.seek(132)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == DEFLATED:
        raise BadImage("is a deflated DICOM file", fix="rewrite it uncompressed")


def _check(header: pydicom.Dataset, max_pixels: int | None) -> None:
    """Refuse, before any pixel is decoded, what is no single grey or colour picture."""
    if "PixelData" not in header:
        raise BadImage("holds no pixels", fix="fetch it again or leave it out")
    frames = int(header.get("NumberOfFrames") or 1)
    if max_pixels is not None and header.Rows * header.Columns * frames > max_pixels:
        raise BadImage(f"claims more than {max_pixels:,} pixels", fix="resize it or leave it out")
    if frames > 1:
        raise BadImage(f"holds {frames} frames, not one picture", fix="write one file per frame")
    kind, bits = header.PhotometricInterpretation, header.BitsStored
    if kind not in ("MONOCHROME1", "MONOCHROME2", *COLOURS):
        raise BadImage(f"has the photometric interpretation '{kind}'", fix="convert it to MONOCHROME2")
    deepest = 8 if kind in COLOURS else 16
    if bits > deepest:
        raise BadImage(
            f"has {bits} bits per {'colour' if kind in COLOURS else 'pixel'}, more than {deepest}",
            fix="convert it to 16-bit MONOCHROME2",
        )
    _require_decoder(header.file_meta.TransferSyntaxUID, bits)


def _require_decoder(syntax: pydicom.uid.UID, bits: int) -> None:
    """Refuse pixels that no installed package decompresses, naming one that would."""
    from pydicom.pixels.decoders.base import get_decoder

    if not syntax.is_compressed:
        return
    decoders = set(get_decoder(syntax).available_plugins)
    package = "python-gdcm"
    if syntax == EXTENDED_JPEG and bits > 8:
        decoders -= {"gdcm", "pillow"}  # They count as decoders, and read 8 bits only.
        package = "pylibjpeg pylibjpeg-libjpeg"
    elif syntax.startswith(HIGH_THROUGHPUT):
        package = "pylibjpeg pylibjpeg-openjpeg"
    if not decoders:
        what = f"no decoder is installed for its transfer syntax {syntax} ({syntax.name})"
        raise MissingPackage(what, fix=f"pip install {package}")


def _grey(header: pydicom.Dataset) -> npt.NDArray[np.uint8]:
    """The picture, brighter being larger; (Rows, Columns)."""
    from pydicom.pixels.processing import apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    stored = pixel_array(header)  # Bits beyond those stored are gone, YBR has become RGB.
    if header.PhotometricInterpretation in COLOURS:
        return np.asarray(Image.fromarray(stored).convert("L"))
    outside = _padding(header, stored)
    inverted = header.PhotometricInterpretation == "MONOCHROME1"
    bits, signed = header.BitsStored, header.PixelRepresentation == 1
    if "ModalityLUTSequence" in header:
        pixels = apply_modality_lut(stored, header).astype(np.uint16)
    else:
        inverted ^= float(header.get("RescaleSlope") or 1) < 0
        # All 16 bits are used, the lowest value is 0.
        pixels = (stored.astype(np.int32) + (signed << (bits - 1)) << (16 - bits)).astype(np.uint16)
        if bits == 8 and not signed:
            plain = stored.astype(np.uint8)
            return np.where(outside, np.uint8(0), 255 - plain if inverted else plain)
    return expose(~pixels if inverted else pixels, outside if outside.any() else None)


def _padding(header: pydicom.Dataset, stored: Array) -> BoolArray:
    """Which pixels lie outside the picture: those of the padding value, or between it and its limit."""
    first: Any = header.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    last = header.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    return np.asarray((stored >= low) & (stored <= high), dtype=bool)


def expose(pixels: npt.NDArray[np.uint16], outside: BoolArray | None = None) -> npt.NDArray[np.uint8]:
    """Window a deep picture to its 0.5th to 99.5th percentile, or to its whole range where these coincide.

    The window is the picture's own, so it does not matter how many of the 16 bits are used, nor
    which offset and scale a device wrote.

    Args:
        pixels: Brighter is larger; shape (H, W). A constant picture keeps its brightness.
        outside: Pixels that are no part of the picture, shape (H, W): they do not count, and turn black.

    Returns:
        Grey values of shape (H, W).
    """
    counts = np.bincount((pixels if outside is None else pixels[~outside]).ravel(), minlength=65536)
    present = np.flatnonzero(counts)
    if not len(present):
        return np.zeros(pixels.shape, dtype=np.uint8)
    low, high = np.searchsorted(np.cumsum(counts) / counts.sum(), WINDOW)
    if low == high:
        low, high = present[0], present[-1]
    if low == high:
        ramp = np.arange(65536) >> 8
    else:
        ramp = np.rint(np.clip((np.arange(65536) - low) / float(high - low), 0, 1) * 255)
    grey: Array = ramp.astype(np.uint8)[pixels]
    if outside is not None:
        grey[outside] = 0
    return grey
