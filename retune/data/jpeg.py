"""JPEG as libjpeg decodes it, with its warnings heard: Pillow drops them and gives a half wrong picture."""

from __future__ import annotations

import struct
from typing import Final

import simplejpeg

from retune.data.dataset import Array
from retune.errors import BadImage

COLOURS: Final = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
DAMAGE: Final = ("Corrupt JPEG data", "Premature end", "Inconsistent progression")
"""How libjpeg begins to say that pixels are lost."""
PROFILE: Final = "ICC"
"""What a warning names that begins so too, and is of the colour profile."""
FRAMES: Final = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers that begin a picture, with its precision and size."""
LOSSLESS: Final = {0xC3, 0xC7, 0xCB, 0xCF}
NOTES: Final = {*range(0xE0, 0xF0), 0xFE}
"""Markers of what applications read."""


def listen(data: bytes, mode: str, height: int, width: int) -> Array | None:
    """Decode a JPEG at the smallest scale that is no smaller than a size.

    The pixels are Pillow's: both ask libjpeg-turbo for the same. What libjpeg cannot see stays unseen: bytes
    changed or blocks exchanged such that every code is still one and their number fits, as after most
    single bytes that change.

    Args:
        data: The file's bytes.
        mode: Pillow's name of the colours wanted.
        height: In pixels.
        width: In pixels.

    Returns:
        uint8 (H, W) or (H, W, C); None where other decoders give this kind of JPEG better.

    Raises:
        BadImage: If libjpeg warns that pixels are lost.
    """
    start = _start_of_frame(data)
    if mode not in COLOURS or start is None:
        return None
    lossless = data[start + 1] in LOSSLESS
    if lossless:
        # These come at full size whatever room was made for them; their codes are alike at any precision.
        if struct.unpack_from(">HH", data, start + 5) != (height, width):
            return None
        data = data[: start + 4] + b"\x08" + data[start + 5 :]
    try:
        pixels: Array = simplejpeg.decode_jpeg(data, COLOURS[mode], min_height=height, min_width=width)
    except ValueError as error:
        if str(error).startswith(DAMAGE) and PROFILE not in str(error):
            raise BadImage(f"is damaged inside ({error})", fix="fetch it again") from error
        # The first warning is all that is told: behind one of a header there may be another.
        if len(bare := _without_notes(data)) < len(data):
            listen(bare, mode, height, width)
        return None
    if lossless:
        return None
    return pixels[..., 0] if mode == "L" else pixels


def _start_of_frame(data: bytes) -> int | None:
    """Where the marker of the picture stands; None if anything but segments leads there."""
    start = 2
    while data[start : start + 1] == b"\xff" and len(data) >= start + 9:
        if (marker := data[start + 1]) in FRAMES:
            return start
        if marker == 0xFF:  # Markers may be filled up.
            start += 1
        elif marker >= 0xC0 and not 0xD0 <= marker <= 0xDA:
            start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        else:
            return None
    return None


def _without_notes(data: bytes) -> bytes:
    """A JPEG without what stands before its picture for applications to read, and libjpeg to complain of."""
    start = 2
    while data[start : start + 1] == b"\xff" and data[start + 1] in NOTES:
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return data[:2] + data[start:]
