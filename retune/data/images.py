"""Radiographs from files: any PNG or JPEG as well exposed 8-bit grey."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageChops, UnidentifiedImageError

from retune.cache import file_digests
from retune.data.dataset import Array, BoolArray, IntArray
from retune.errors import BadImage

WINDOW: Final = (0.005, 0.995)
"""Share of a deep picture's pixels that turn black and white: burnt-in markers must not set the exposure."""


def decode(data: bytes, *, name: str, max_side: int | None = None) -> Image.Image:
    """Decode a PNG or JPEG as 8-bit grey.

    Colour becomes luminance and transparency is laid on black. Pictures of more than 8 bits are
    windowed to their 0.5th to 99.5th percentile, or to their whole range where these coincide.

    Args:
        data: The file's bytes.
        name: The picture's name, for messages.
        max_side: Let a JPEG be decoded at 1/2, 1/4 or 1/8 scale as long as no side falls below this.
            It changes the pixels, so it is part of the preprocessing.

    Returns:
        A picture of mode ``"L"``.

    Raises:
        BadImage: If the bytes are no PNG or JPEG, are cut off, or claim more pixels than Pillow allows.
    """
    try:
        with Image.open(BytesIO(data), formats=("PNG", "JPEG")) as image:
            # Pillow itself only warns up to twice its limit.
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            if max_side is not None:
                image.draft("L", (max_side, max_side))
            image.load()
            return _grey(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(
            f"claims more than {Image.MAX_IMAGE_PIXELS:,} pixels", where=name, fix="resize it or leave it out"
        ) from error
    except UnidentifiedImageError as error:
        what = "is not a PNG or JPEG picture" if data else "is an empty file"
        raise BadImage(what, where=name, fix="convert it or fetch it again") from error
    except Exception as error:  # Decoders of damaged files raise nearly anything.
        raise BadImage(f"cannot be decoded ({error})", where=name, fix="fetch it again") from error


def _grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _window(np.asarray(image))
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "RGBA", "PA"):
        image = image if image.mode != "PA" else image.convert("RGBA")
        # Multiplying by an opaque channel leaves every value as it was.
        return ImageChops.multiply(image.convert("L"), image.getchannel("A"))
    return image.copy() if image.mode == "L" else image.convert("L")


def _window(pixels: Array) -> Image.Image:
    values = np.clip(pixels, 0, 65535).astype(np.uint16)
    counts = np.bincount(values.ravel(), minlength=65536)
    present = np.flatnonzero(counts)
    below = np.cumsum(counts) / values.size
    low, high = np.searchsorted(below, WINDOW)
    if low == high:
        low, high = present[0], present[-1]
    if low == high:
        return Image.fromarray((values >> 8).astype(np.uint8))
    ramp = (np.arange(65536, dtype=np.float64) - low) / float(high - low)
    return Image.fromarray(np.rint(np.clip(ramp, 0, 1) * 255).astype(np.uint8)[values])


@dataclass(frozen=True)
class FileImages:
    """Pictures in files; an ``ImageSource``.

    Args:
        paths: File of each row, shape (N,), relative to ``root`` where that is given.
        root: Folder of the data set.
        max_side: As for ``decode``.
    """

    paths: Array
    root: Path | None = None
    max_side: int | None = None

    def load(self, rows: IntArray) -> list[Image.Image | BadImage]:
        """The pictures of some rows as 8-bit grey; in place of an unreadable one, what is wrong with it."""
        return [self._load(self.path(int(row))) for row in rows]

    def keys(self, rows: IntArray) -> list[bytes | None]:
        """SHA-256 of each row's file, or None where there is none."""
        return file_digests([self.path(int(row)) for row in rows])

    def exists(self, rows: IntArray) -> BoolArray:
        """Which rows have a file."""
        return np.array([self.path(int(row)).is_file() for row in rows], dtype=bool)

    def describe(self, row: int) -> str:
        """The row's file name as stored, relative to the root."""
        return str(self.paths[row])

    def path(self, row: int) -> Path:
        """The row's file."""
        name = str(self.paths[row])
        return Path(name) if self.root is None else self.root / name

    def _load(self, path: Path) -> Image.Image | BadImage:
        try:
            return decode(path.read_bytes(), name=str(path), max_side=self.max_side)
        except BadImage as error:
            return error
        except OSError as error:
            return BadImage(f"cannot be read ({error.strerror})", where=str(path))
