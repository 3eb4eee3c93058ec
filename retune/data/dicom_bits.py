"""Which bits of a DICOM file's pixels are the picture's, and which pixels are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from retune.data.dataset import Array, BoolArray
from retune.errors import BadImage

if TYPE_CHECKING:
    import pydicom


AGREE: Final = 3
"""So many times as many steps between neighbours must speak for a reading of the pixels as against it."""
FEW: Final = 0.001
"""Share of a picture's pixels that do not matter."""
ROUGH: Final = 1 / 8
"""Mean step from pixel to pixel, as a share of all grey values, that no radiograph has; noise has a third."""
NEAR: Final = 1 / 12
"""A step within a radiograph is smaller, as a share of all grey values."""
SAMPLED: Final = 256
"""So many rows and columns of a picture tell whether its numbers have a sign."""


def raw_pixels(header: pydicom.Dataset) -> Array:
    """The pixels with all bits that there are, whatever the header says of them."""
    from pydicom.uid import JPEGLossless, JPEGLosslessSV1

    options: dict[str, Any] = {"correct_unused_bits": False}
    if header.file_meta.TransferSyntaxUID in (JPEGLossless, JPEGLosslessSV1):
        options["bits_stored"] = header.BitsAllocated
    return decoded(header, **options)


def decoded(header: pydicom.Dataset, **options: Any) -> Array:
    """The pixels as pydicom gives them, by Pillow's decoders wherever it has one.

    GDCM's give the same, but at some damaged files they end the whole process without a word.
    """
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit

    syntax = header.file_meta.TransferSyntaxUID
    if syntax in (JPEGBaseline8Bit, JPEG2000, JPEG2000Lossless) or (
        syntax == JPEGExtended12Bit and header.BitsStored <= 8
    ):
        options["decoding_plugin"] = "pillow"
    return pixel_array(header, **options)


def without_foreign_bits(header: pydicom.Dataset, raw: Array, notes: list[str]) -> tuple[Array, int]:
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
    if signed and wide.min() >= 0 and wide.max() < 1 << declared:  # The sign is not repeated above.
        return _of_bits(wide, declared, signed), declared
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


def own_sign(header: pydicom.Dataset, values: Array, bits: int, notes: list[str]) -> tuple[Array, bool]:
    """The numbers with the sign that they have, and whether they have one, whatever PixelRepresentation says.

    Read with the wrong one, numbers jump from one end of their range to the other where a radiograph goes through
    its middle, and none goes through it.

    Args:
        header: The file's.
        values: As PixelRepresentation says, shape (H, W).
        bits: How many bits they have.
        notes: Receives a contradiction.
    """
    signed = header.PixelRepresentation == 1
    for lines in (values, values.T):
        some = lines[:: max(1, len(lines) // SAMPLED)]
        jumps, passes = _through_the_middle(header, some, bits, signed)
        if 2 * jumps < len(some) or jumps <= AGREE * passes:
            return values, signed
    words = ("signed", "unsigned") if signed else ("unsigned", "signed")
    notes.append("PixelRepresentation (0028,0103) says {}, its pixels are {}, which counts".format(*words))
    return _of_bits(values.astype(np.int32), bits, not signed), not signed


def _through_the_middle(header: pydicom.Dataset, lines: Array, bits: int, signed: bool) -> tuple[int, int]:
    """In how many steps along lines the sign, or the upper bit, changes in a jump, and in how many gently.

    Steps from the darkest or brightest there is do not count: they are edges of a frame or of letters.
    """
    whole = 1 << bits
    upper = lines >= (0 if signed else whole >> 1)
    crossed = upper[:, 1:] != upper[:, :-1]
    a, b = (side[crossed].astype(np.int64) for side in (lines[:, 1:], lines[:, :-1]))
    ends = (int(lines.min()), int(lines.max()))
    edge = np.isin(a, ends) | np.isin(b, ends) | padding(header, a) | padding(header, b)
    step = np.abs(a - b)[~edge]
    return int((step > whole * (1 - NEAR)).sum()), int((step < whole * NEAR).sum())


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
    steps = np.abs(np.diff(values, axis=1))[~padding(header, values)[:, 1:]]
    # Neighbours of which one says nothing of the other are no picture.
    return width if steps.sum() <= ROUGH * (1 << width) * steps.size else None


def _smoother(header: pydicom.Dataset, first: Array, second: Array) -> tuple[int, int]:
    """In how many steps from pixel to pixel one reading changes less than another, and in how many more."""
    inside = ~(padding(header, first) | padding(header, second))
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


def padding(header: pydicom.Dataset, stored: Array) -> BoolArray:
    """Which pixels lie outside the picture: those of the padding value, or between it and its limit."""
    first: Any = header.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, dtype=bool)
    last = header.get("PixelPaddingRangeLimit")
    low, high = sorted((int(first), int(first if last is None else last)))
    return np.asarray((stored >= low) & (stored <= high), dtype=bool)
