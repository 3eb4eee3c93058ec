"""Radiographs from DICOM files, as well exposed 8-bit grey; needs pydicom."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import MutableSequence
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from retune.data.dataset import Array, BoolArray
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
NOTE: Final = "retune.note"
"""Where a picture's ``info`` says that its file contradicts itself, and what was made of that."""
AGREE: Final = 3
"""So many times as many steps between neighbours must speak for a reading of the pixels as against it."""
FEW: Final = 0.001
"""Share of a picture's pixels that do not matter."""
ROUGH: Final = 1 / 8
"""Mean step from pixel to pixel, as a share of all grey values, that no radiograph has; noise has a third."""

WINDOW: Final = (0.005, 0.995)
"""Share of a deep picture's pixels that turn black and white: burnt-in markers must not set the exposure."""


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

    Pictures of more than 8 bits are exposed by :func:`retune.data.dicom.expose`, like any other
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
    try:
        import pydicom
    except ImportError:
        fix = install("dicom")
        raise MissingPackage("is a DICOM file, and pydicom is not installed", where=name, fix=fix) from None
    _hush()
    try:
        start = _start(data) or 0
        _refuse_deflated(data, start)
        header = pydicom.dcmread(BytesIO(data if start == 132 else data[start:]), force=True)
        _complete(header)
        _check(header, max_pixels)
        notes: list[str] = []
        picture = Image.fromarray(_grey(header, notes))
        if notes:
            picture.info[NOTE] = "; ".join(notes)
        return picture
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


def _refuse_deflated(data: bytes, start: int) -> None:
    """Refuse what pydicom would inflate whole, however large it becomes, before anything can be checked."""
    from pydicom.filereader import read_dataset

    file = BytesIO(data)
    file.seek(start)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == DEFLATED:
        raise BadImage("is a deflated DICOM file", fix="rewrite it uncompressed")


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
    from pydicom.pixels.utils import pixel_array

    _hear(header)
    if header.PhotometricInterpretation in COLOURS:
        return np.asarray(Image.fromarray(pixel_array(header)).convert("L"))  # YBR has become RGB.
    raw = _raw(header)
    stored, bits = _without_foreign_bits(header, raw, notes)
    outside = _padding(header, stored) | (_padding(header, raw) if stored is not raw else False)
    signed = header.PixelRepresentation == 1
    table = _first(header, "ModalityLUTSequence")
    if table is not None:
        pixels = _looked_up(header, table, stored, "Modality LUT")
    else:
        # All 16 bits are used, the lowest value is 0.
        pixels = (stored.astype(np.int32) + (signed << (bits - 1)) << (16 - bits)).astype(np.uint16)
    inverted = _is_inverted(header, stored if table is None else pixels, outside, notes)
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


def _raw(header: pydicom.Dataset) -> Array:
    """The pixels with all bits that there are, whatever the header says of them."""
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import JPEGLossless, JPEGLosslessSV1

    options: dict[str, Any] = {"correct_unused_bits": False}
    if header.file_meta.TransferSyntaxUID in (JPEGLossless, JPEGLosslessSV1):
        options["bits_stored"] = header.BitsAllocated
    return pixel_array(header, **options)


def _without_foreign_bits(header: pydicom.Dataset, raw: Array, notes: list[str]) -> tuple[Array, int]:
    """The pixels as numbers, and of how many bits they are.

    BitsStored is believed as long as all pixels keep to it. Where they do not, the upper bits are either a
    part of the numbers, since BitsStored or HighBit is wrong, or foreign: an overlay, or rubbish. The pixels
    tell: where a bit differs between neighbours, a radiograph is smoother when read with it if it is
    its own, and without it if it is not.

    Raises:
        BadImage: If neither the pixels tell nor another element.
    """
    declared, signed = int(header.BitsStored), header.PixelRepresentation == 1
    container = 8 * raw.dtype.itemsize
    lowest, highest = (
        (-(1 << (declared - 1)), (1 << (declared - 1)) - 1) if signed else (0, (1 << declared) - 1)
    )
    if declared >= container or (raw.min() >= lowest and raw.max() <= highest):
        return raw, declared
    wide = raw.astype(np.int32 if container <= 16 else np.int64)
    width = _own_bits(header, wide, container) or _claimed_bits(header, wide)
    if width is None or width > 16:
        raise BadImage(
            f"has pixels of more bits than BitsStored (0028,0101) says, {declared}",
            fix="correct BitsStored, or export it again",
        )
    values = _of_bits(wide, width, signed)
    if width > declared:
        unused = int(header.get("HighBit") or 0) + 1 - declared
        # As the standard once allowed: the numbers lie in the upper bits.
        if unused > 0 and (width == declared + unused or not (values & ((1 << unused) - 1)).any()):
            return values >> unused, declared
        notes.append(f"BitsStored (0028,0101) says {declared}, its pixels use {width} bits, which count")
    return values, width


def _of_bits(values: Array, bits: int, signed: bool) -> Array:
    """Numbers cut to their lowest bits, the highest of which is the sign if there is one."""
    kept = values & ((1 << bits) - 1)
    return kept - ((kept >> (bits - 1)) << bits) if signed else kept


def _own_bits(header: pydicom.Dataset, values: Array, width: int) -> int | None:
    """How many of the bits of numbers, of which width are there, are their own; None if they do not tell."""
    declared, overlays = int(header.BitsStored), _overlay_bits(header)
    undecided: list[Array] = []
    while width > declared:
        fewer = _of_bits(values, width - 1, header.PixelRepresentation == 1)
        better, worse = _smoother(header, values, fewer)
        if width - 1 not in overlays and better > AGREE * worse:
            break
        if better > worse / AGREE:
            undecided.append(values)
        values, width = fewer, width - 1
    for reading in undecided:
        better, worse = _smoother(header, values, reading)
        if better < AGREE * worse:
            return None
    steps = np.abs(np.diff(values, axis=1))[~_padding(header, values)[:, 1:]]
    # Neighbours of which one says nothing of the other are no picture.
    return width if steps.sum() <= ROUGH * (1 << width) * steps.size else None


def _smoother(header: pydicom.Dataset, first: Array, second: Array) -> tuple[int, int]:
    """In how many steps from pixel to pixel one reading changes less than another, and in how many more."""
    inside = ~(_padding(header, first) | _padding(header, second))
    less = more = 0
    for axis in (0, 1):
        a, b = (np.abs(np.diff(reading, axis=axis)) for reading in (first, second))
        both = inside[1:] & inside[:-1] if axis == 0 else inside[:, 1:] & inside[:, :-1]
        less += int((both & (a < b)).sum())
        more += int((both & (a > b)).sum())
    few = less + more < FEW * first.size
    return (0, 0) if few else (less, more)


def _claimed_bits(header: pydicom.Dataset, values: Array) -> int | None:
    """How many bits the largest value, or a codestream of JPEG 2000, says that pixels have."""
    from pydicom.encaps import get_frame
    from pydicom.pixels.utils import get_j2k_parameters

    largest = header.get("LargestImagePixelValue")
    if largest == values.max() and largest >= 1 << header.BitsStored:
        return int(largest).bit_length() + int(header.PixelRepresentation)
    if not header.file_meta.TransferSyntaxUID.is_encapsulated:
        return None
    stream = get_frame(header.PixelData, 0, number_of_frames=1)
    precision: int | None = get_j2k_parameters(stream).get("precision")
    return precision


def _overlay_bits(header: pydicom.Dataset) -> set[int]:
    """Bits of each pixel that hold an overlay, as old devices wrote them."""
    groups = [group for group in range(0x6000, 0x6020, 2) if (group, 0x3000) not in header]
    places = [header[group, 0x0102].value for group in groups if (group, 0x0102) in header]
    return {int(place) for place in places if place is not None}


def _is_inverted(header: pydicom.Dataset, values: Array, outside: BoolArray, notes: list[str]) -> bool:
    """Whether larger values are darker.

    Each step from the stored values to the display may turn them round: a negative slope, a VOI LUT that
    falls, and the photometric interpretation; a Modality LUT has been applied. Presentation LUT Shape says
    the last once more, and does not count: where it contradicts, the photometric interpretation, which no
    file lacks, decides.

    Args:
        header: The file's.
        values: As stored, or as the Modality LUT gave them.
        outside: Pixels that are no part of the picture.
        notes: Receives a contradiction.
    """
    kind = header.PhotometricInterpretation
    shape = str(header.get("PresentationLUTShape") or "").strip().upper()
    if (kind, shape) in (("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")):
        notes.append(
            f"PhotometricInterpretation is {kind} and PresentationLUTShape {shape}; the former counts"
        )
    slope, intercept = 1.0, 0.0
    if _first(header, "ModalityLUTSequence") is None:
        slope, intercept = _number(header, "RescaleSlope", 1), _number(header, "RescaleIntercept", 0)
    inverted = bool((kind == "MONOCHROME1") ^ (slope < 0))
    table = _first(header, "VOILUTSequence")
    if table is not None:
        try:
            inverted ^= _falls(header, table, values, outside, slope or 1.0, intercept)
        except (BadImage, AttributeError, LookupError, TypeError, ValueError) as error:
            notes.append(f"its VOI LUT cannot be read ({error}) and does not count")
    return inverted


def _falls(
    header: pydicom.Dataset,
    table: pydicom.Dataset,
    values: Array,
    outside: BoolArray,
    slope: float,
    intercept: float,
) -> bool:
    """Whether a VOI LUT is lower at the upper end of the values in use than at their lower end."""
    inside = values[~outside] if outside.any() else values.ravel()
    if not inside.size:
        return False
    rank = [round(share * (inside.size - 1)) for share in WINDOW]
    ordered = np.partition(inside, rank)
    ends = [int(ordered[k]) for k in rank]
    if ends[0] == ends[1]:
        ends = [int(inside.min()), int(inside.max())]
    low, high = sorted(round(slope * end + intercept) for end in ends)
    # No table has more entries than a few thousand points tell apart.
    shown = _looked_up(header, table, np.linspace(low, high, 4097).round().astype(np.int64), "VOI LUT")
    half = len(shown) // 2
    rises = float(shown[-1]) - float(shown[0]) or float(shown[half:].mean() - shown[:half].mean())
    return rises < 0


def _looked_up(
    header: pydicom.Dataset, table: pydicom.Dataset, values: Array, name: str
) -> npt.NDArray[np.uint16]:
    """What a table of a header makes of values.

    The number of bits that it claims for its entries says only whether two of them lie in 16 bits.

    Raises:
        BadImage: If it lacks entries.
    """
    count, first, bits = (int(value) for value in table.LUTDescriptor)
    count = count & 0xFFFF or 65536
    little = header.file_meta.TransferSyntaxUID.is_little_endian or table["LUTData"].VR != "OW"
    entries = _entries(table["LUTData"].value, count, bits & 0xFFFF, "<" if little else ">")
    if len(entries) < count:
        raise BadImage(
            f"has a {name} of {len(entries):,} entries that claims {count:,}", fix="fetch it again"
        )
    # The first value's sign depends on another element, and gets lost.
    low, high = int(values.min()), int(values.max())
    other = first - 65536 if first > 0 else first + 65536
    if not (first <= high and low < first + count) and other <= high and low < other + count:
        first = other
    return entries[np.clip(values.astype(np.int32) - first, 0, count - 1)]


def _entries(data: Any, count: int, bits: int, order: str) -> npt.NDArray[np.uint16]:
    """A table's entries, however they lie in the file: as bytes or as a list, each in two bytes or in one."""
    if isinstance(data, bytes):
        words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2").astype(np.uint16)
    else:
        words = np.array([data] if isinstance(data, int) else list(data or ()), dtype=np.int64).astype(
            np.uint16
        )
    if bits <= 8 and len(words) == (count + 1) // 2 < count:
        return words.astype("<u2").view(np.uint8).astype(np.uint16)
    return words


def _first(header: pydicom.Dataset, keyword: str) -> pydicom.Dataset | None:
    """The first item of a sequence, if there is one."""
    items = _place(header, keyword).get(keyword)
    return items[0] if items else None


def _number(header: pydicom.Dataset, keyword: str, otherwise: float) -> float:
    value: Any = _place(header, keyword).get(keyword)
    value = value[0] if isinstance(value, MutableSequence) else value
    number = otherwise if value is None or value == "" else float(value)
    return number if math.isfinite(number) else otherwise


def _place(header: pydicom.Dataset, keyword: str) -> pydicom.Dataset:
    """Where an element stands: in the header itself, or in its functional groups as in multi-frame kinds."""
    places = [header]
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (header.get(name) or [])[:1]:
            places += [item for e in group if e.VR == "SQ" and not e.is_private for item in e.value[:1]]
    return next((place for place in places if place.get(keyword)), header)


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
