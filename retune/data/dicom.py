"""Radiographs from DICOM files, as well exposed 8-bit grey; needs pydicom."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from retune.data.dicom_bits import decoded, own_sign, padding, raw_pixels, without_foreign_bits
from retune.data.dicom_polarity import first_item, is_inverted, looked_up
from retune.data.exposure import expose
from retune.data.jpeg import listen
from retune.errors import BadImage, MissingPackage, install

if TYPE_CHECKING:
    import pydicom


DEFLATED: Final = "1.2.840.10008.1.2.1.99"
EXTENDED_JPEG: Final = "1.2.840.10008.1.2.4.51"
HIGH_THROUGHPUT: Final = "1.2.840.10008.1.2.4.20"
"""What the transfer syntaxes of high-throughput JPEG 2000 begin with."""
COLOURS: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
LONG: Final = (b"OB", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")
"""Kinds of element whose length stands four bytes further on."""
HEADER: Final = 1 << 20
"""So many bytes hold all that stands before the pixels."""
NOTE: Final = "retune.note"
"""Where a picture's ``info`` says that its file contradicts itself, and what was made of that."""


BEGINNING: Final = 1024
"""So many bytes tell a DICOM file from others."""


def is_dicom(data: bytes) -> bool:
    """Whether a file's bytes begin as a DICOM file does, whatever the file is called."""
    return _start(data) is not None


def _start(data: bytes) -> int | None:
    """Where the elements begin: after the preamble and its "DICM", or at once in files that lost these."""
    if data[128:132] == b"DICM":
        return 132
    starts = [4] if data.startswith(b"DICM") else [0, *([] if any(data[:128]) else [128])]
    return next((start for start in starts if _is_element(data[start : start + 8], len(data) - start)), None)


def _is_element(head: bytes, room: int) -> bool:
    """Whether bytes are the first element of a file: of group 2 or 8, with a length that there is room for."""
    if len(head) < 8 or {*head[:2]} not in ({0, 2}, {0, 8}):
        return False
    order: Literal["little", "big"] = "little" if head[0] else "big"
    if not re.match(rb"[A-Z]{2}", head[4:6]):
        return order == "little" and int.from_bytes(head[4:], order) <= room
    return head[4:6] in LONG or int.from_bytes(head[6:], order) <= room


def decode_dicom(data: bytes, *, name: str, max_pixels: int | None = None) -> Image.Image:
    """Decode a DICOM file of one frame as 8-bit grey.

    Pictures of more than 8 bits are exposed by :func:`retune.data.exposure.expose`, like any other
    deep picture. The file's own window (VOI LUT) is left alone: it suits a person at a display, many
    files have none, others several, and pictures of one data set would be exposed by different rules.
    A rescale slope and a VOI LUT therefore count by their direction alone. MONOCHROME1 is inverted, padding
    is black, colour becomes luminance; 8-bit pictures keep their values. Where the header contradicts
    itself or the pixels, the picture's ``info`` says under :data:`NOTE` what was believed.

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
    with _reading(name) as pydicom:
        header = pydicom.dcmread(_file(data, _start(data) or 0), force=True)
        _complete(header)
        _check(header, max_pixels)
        notes: list[str] = []
        picture = Image.fromarray(_grey(header, notes))
        if notes:
            picture.info[NOTE] = "; ".join(notes)
        return picture


def dicom_header(path: Path, tags: Sequence[str]) -> pydicom.Dataset:
    """What the header of a DICOM file says under some tags; no pixel is decoded.

    Raises:
        BadImage: If the file is none.
        MissingPackage: If pydicom is not installed.
    """
    try:
        with path.open("rb") as file:
            data = file.read(HEADER)
    except OSError as error:
        raise BadImage(f"cannot be read ({error.strerror})", where=str(path)) from error
    with _reading(str(path)) as reader:
        start = _start(data)
        if start is None:
            raise BadImage("is not a DICOM file", fix="fetch it again")
        header: pydicom.Dataset = reader.dcmread(
            _file(data, start), force=True, stop_before_pixels=True, specific_tags=list(tags)
        )
        return header


def dicom_size(path: Path) -> tuple[int, int]:
    """Height and width of the picture in a DICOM file, by its header.

    Raises:
        BadImage: If the file is none, or its header does not say.
        MissingPackage: If pydicom is not installed.
    """
    header = dicom_header(path, ("Rows", "Columns"))
    with _reading(str(path)):
        return int(header.Rows), int(header.Columns)


@contextmanager
def _reading(name: str) -> Iterator[Any]:
    """pydicom, and one line for whatever it makes of a file of this name."""
    try:
        import pydicom
    except ImportError:
        fix = install("dicom")
        raise MissingPackage("is a DICOM file, and pydicom is not installed", where=name, fix=fix) from None
    _hush()
    try:
        yield pydicom
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


def _file(data: bytes, start: int) -> BytesIO:
    """What pydicom is to read; not what it would inflate whole, however large, before anything can be checked."""
    from pydicom.filereader import read_dataset

    file = BytesIO(data)
    file.seek(start)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == DEFLATED:
        raise BadImage("is a deflated DICOM file", fix="rewrite it uncompressed")
    return BytesIO(data if start == 132 else data[start:])


def _complete(header: pydicom.Dataset) -> None:
    """Name the transfer syntax of a file that lost it, as its elements were found to be written."""
    from pydicom import uid

    if "TransferSyntaxUID" in header.file_meta or "PixelData" not in header:
        return
    if header["PixelData"].is_undefined_length:
        raise BadImage("names no transfer syntax (0002,0010) of its compressed pixels", fix="export it again")
    implicit, little = header.original_encoding
    header.file_meta.TransferSyntaxUID = (
        uid.ImplicitVRLittleEndian
        if implicit
        else (uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian)
    )


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


def _grey(header: pydicom.Dataset, notes: list[str]) -> npt.NDArray[np.uint8]:
    """The picture, brighter being larger; (Rows, Columns)."""
    _hear(header)
    if header.PhotometricInterpretation in COLOURS:
        return np.asarray(Image.fromarray(decoded(header)).convert("L"))  # YBR has become RGB.
    raw = raw_pixels(header)
    stored, bits = without_foreign_bits(header, raw, notes)
    outside = padding(header, stored) | (padding(header, raw) if stored is not raw else False)
    stored, signed = own_sign(header, stored, bits, notes)
    table = first_item(header, "ModalityLUTSequence")
    if table is not None:
        pixels = looked_up(header, table, stored, "Modality LUT")
    else:
        # All 16 bits are used, the lowest value is 0.
        pixels = (stored.astype(np.int32) + (signed << (bits - 1)) << (16 - bits)).astype(np.uint16)
    inverted = is_inverted(header, stored if table is None else pixels, outside, notes)
    if table is None and bits == 8 and not signed:
        plain = stored.astype(np.uint8)
        return np.where(outside, np.uint8(0), 255 - plain if inverted else plain)
    return expose(~pixels if inverted else pixels, outside if outside.any() else None)


def _hear(header: pydicom.Dataset) -> None:
    """Refuse a JPEG inside that is damaged; the decoders of DICOM do not tell."""
    from pydicom.encaps import get_frame
    from pydicom.uid import JPEGTransferSyntaxes

    if header.file_meta.TransferSyntaxUID in JPEGTransferSyntaxes:
        listen(get_frame(header.PixelData, 0, number_of_frames=1), "L", header.Rows, header.Columns)
