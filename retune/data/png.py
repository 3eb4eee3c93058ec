"""PNG: plain grey, as most radiographs are, decoded in half of Pillow's time; every kind's checksums heard."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from kornia_rs.io import decode_image_png_u8, decode_image_png_u16

from retune.data.dataset import Array
from retune.errors import BadImage

DECODERS: Final = {(8, 0, 0): decode_image_png_u8, (16, 0, 0): decode_image_png_u16}
"""By bits, colour type and way of interlacing."""
PLAIN: Final = {
    *(b"IHDR", b"IDAT", b"IEND"),
    *(b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"bKGD", b"pHYs", b"tIME", b"tEXt"),
}
"""Chunks that leave the pixels as they are stored."""
TURNING: Final = (b"Raw profile type", b"XML:")
"""How a text begins that may say how the picture is turned."""


def plain(data: bytes, height: int, width: int) -> Array | None:
    """Decode a PNG of 8- or 16-bit grey.

    The pixels are Pillow's: the format leaves no choice.

    Args:
        data: The file's bytes.
        height: In pixels, as its header says.
        width: In pixels.

    Returns:
        uint8 or uint16 (H, W); None where Pillow is to have its say: of another kind of PNG, or a damaged one.
    """
    decode = DECODERS.get((data[24], data[25], data[28]))
    if decode is None or not all(
        kind in PLAIN and not (kind == b"tEXt" and bytes(body[4:]).startswith(TURNING))
        for kind, body, _ in _chunks(data)
    ):
        return None
    with suppress(Exception):  # Which one a damaged file raises is not documented.
        pixels: Array = decode(data, (height, width), "mono")
        return pixels[..., 0]
    return None


def check_sums(data: bytes) -> None:
    """Hold a PNG's pixels against their checksums, which Pillow passes over.

    Raises:
        BadImage: If one is wrong.
    """
    for kind, body, wanted in _chunks(data):
        if kind == b"IDAT" and zlib.crc32(body) != wanted:
            raise BadImage("is damaged inside (a checksum of its pixels is wrong)", fix="fetch it again")


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Each whole chunk's kind, its bytes from the kind on, and its checksum."""
    start, view = 8, memoryview(data)
    while (end := start + 8 + int.from_bytes(view[start : start + 4], "big")) + 4 <= len(data):
        yield data[start + 4 : start + 8], view[start + 4 : end], int.from_bytes(view[end : end + 4], "big")
        start = end + 4
