"""Whether larger values of a DICOM file are darker, and what its tables make of them."""

from __future__ import annotations

import math
from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from retune.data.dataset import Array, BoolArray
from retune.data.exposure import WINDOW
from retune.errors import BadImage

if TYPE_CHECKING:
    import pydicom


def is_inverted(header: pydicom.Dataset, values: Array, outside: BoolArray, notes: list[str]) -> bool:
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
    if first_item(header, "ModalityLUTSequence") is None:
        slope, intercept = _number(header, "RescaleSlope", 1), _number(header, "RescaleIntercept", 0)
    inverted = bool((kind == "MONOCHROME1") ^ (slope < 0))
    table = first_item(header, "VOILUTSequence")
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
    shown = looked_up(header, table, np.linspace(low, high, 4097).round().astype(np.int64), "VOI LUT")
    half = len(shown) // 2
    rises = float(shown[-1]) - float(shown[0]) or float(shown[half:].mean() - shown[:half].mean())
    if not rises:  # No value in use is in the table, so that its own ends count.
        first, last = looked_up(header, table, np.array([-1 << 17, 1 << 17]), "VOI LUT").tolist()
        rises = last - first
    return rises < 0


def looked_up(
    header: pydicom.Dataset, table: pydicom.Dataset, values: Array, name: str
) -> npt.NDArray[np.uint16]:
    """What a table of a header makes of values.

    The number of bits that it claims for its entries says only whether two of them lie in 16 bits.

    Raises:
        BadImage: If it lacks entries.
    """
    count, first, bits = (int(value) for value in table.LUTDescriptor)
    count = count & 0xFFFF or 65536
    # A list too long for its kind of element is written as UN.
    little = header.file_meta.TransferSyntaxUID.is_little_endian or table["LUTData"].VR not in ("OW", "UN")
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


def first_item(header: pydicom.Dataset, keyword: str) -> pydicom.Dataset | None:
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
