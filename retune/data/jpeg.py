"""JPEG as libjpeg decodes it, with its warnings heard: Pillow drops them and gives a half wrong picture."""

from __future__ import annotations

from typing import Final

import simplejpeg

from retune.data.dataset import Array
from retune.errors import BadImage

COLOURS: Final = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
DAMAGE: Final = ("Corrupt JPEG data", "Premature end", "Inconsistent progression")
"""How libjpeg begins to say that pixels are lost."""
PROFILE: Final = "ICC"
"""What a warning names that begins so too, and is of the colour profile."""


def listen(data: bytes, mode: str, height: int = 1, width: int = 1) -> Array | None:
    """Decode a JPEG at the smallest scale that is no smaller than a size, by default an eighth.

    The pixels are Pillow's: both ask libjpeg-turbo for the same. What libjpeg cannot see stays unseen: bytes
    changed or blocks exchanged such that every code is still one and their number fits, as after most
    single bytes that change.

    Args:
        data: The file's bytes.
        mode: Pillow's name of the colours wanted.
        height: In pixels.
        width: In pixels.

    Returns:
        uint8 (H, W) or (H, W, C); None where only other decoders read this kind of JPEG.

    Raises:
        BadImage: If libjpeg warns that pixels are lost.
    """
    if mode not in COLOURS:
        return None
    try:
        pixels: Array = simplejpeg.decode_jpeg(data, COLOURS[mode], min_height=height, min_width=width)
    except ValueError as error:
        if str(error).startswith(DAMAGE) and PROFILE not in str(error):
            raise BadImage(f"is damaged inside ({error})", fix="fetch it again") from error
        # The first warning is all that is told: behind one of a header there may be another.
        if len(bare := _without_notes(data)) < len(data):
            listen(bare, mode)
        return None
    return pixels[..., 0] if mode == "L" else pixels


def _without_notes(data: bytes) -> bytes:
    """A JPEG without what stands before its pictures for applications to read, and libjpeg to complain of."""
    start = 2
    while data[start : start + 1] == b"\xff" and (data[start + 1] & 0xF0 == 0xE0 or data[start + 1] == 0xFE):
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return data[:2] + data[start:]
