"""Radiographs from files: any PNG, JPEG or DICOM file as well exposed 8-bit grey."""

from __future__ import annotations

import hashlib
import os
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from stat import S_ISREG
from typing import Final

import numpy as np
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from retune.cache import file_digests
from retune.data.dataset import Array, BoolArray, IntArray
from retune.data.dicom import BEGINNING, decode_dicom, dicom_size, is_dicom
from retune.data.exposure import expose
from retune.data.jpeg import listen
from retune.data.png import check_sums, plain
from retune.data.processes import decoded
from retune.errors import BadImage
from retune.system import cores

DECODER: Final = b"2"
"""Goes up whenever the same file would be decoded into other pixels: it is part of every picture's key."""
DEEP_COLOUR: Final = (2, 4, 6)
"""Colour types of a PNG that Pillow cuts from 16 to 8 bits: RGB, grey and alpha, RGBA."""

FEW: Final = 3
"""Cores up to which :func:`retune.data.png.plain` is faster: it lets no other thread run meanwhile, and Pillow does.

A process that decodes counts one core, and so takes it on any machine.
"""


def decode(data: bytes, *, name: str, at_least: int | None = None) -> Image.Image:
    """Decode a PNG, JPEG or DICOM file, told apart by their bytes, as 8-bit grey.

    Colour becomes luminance and transparency is laid on black; a camera's orientation tag is followed.
    Pictures of more than 8 bits are exposed by :func:`retune.data.exposure.expose`. For DICOM see
    :func:`retune.data.dicom.decode_dicom`.

    Args:
        data: The file's bytes.
        name: The picture's name, for messages.
        at_least: A JPEG may be decoded at 1/2, 1/4 or 1/8 scale as long as no side falls below so many
            pixels. It changes the pixels, so it is part of the preprocessing.

    Returns:
        A picture of mode ``"L"``.

    Raises:
        BadImage: If the bytes are no such picture, are cut off, or claim more pixels than Pillow allows.
        MissingPackage: If a package that decodes DICOM is not installed.
    """
    if is_dicom(data):
        return decode_dicom(data, name=name, max_pixels=Image.MAX_IMAGE_PIXELS)
    try:
        with Image.open(BytesIO(data), formats=("PNG", "JPEG")) as image:
            # Pillow itself only warns up to twice its limit.
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            if image.format == "PNG" and data[24] == 16 and data[25] in DEEP_COLOUR:
                raise BadImage("has 16 bits per colour", fix="convert it to 16-bit grey")
            if image.format == "PNG":
                pixels = plain(data, image.height, image.width) if cores() <= FEW else None
                if pixels is None:
                    image.load()
                check_sums(data)
                if pixels is not None:
                    return Image.fromarray(pixels if pixels.dtype == np.uint8 else expose(pixels))
                return _grey(ImageOps.exif_transpose(image))
            if at_least is not None:
                image.draft("L", (at_least, at_least))
            return _grey(ImageOps.exif_transpose(_jpeg(image, data)))
    except BadImage as error:
        raise BadImage(error.what, where=name, fix=error.fix) from error.__cause__
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(
            f"claims more than {Image.MAX_IMAGE_PIXELS:,} pixels", where=name, fix="resize it or leave it out"
        ) from error
    except UnidentifiedImageError as error:
        what = "is not a PNG, JPEG or DICOM picture" if data else "is an empty file"
        raise BadImage(what, where=name, fix="convert it or fetch it again") from error
    except Exception as error:  # Decoders of damaged files raise nearly anything.
        raise BadImage(f"cannot be decoded ({error})", where=name, fix="fetch it again") from error


def decode_file(path: Path, at_least: int | None = None) -> Image.Image | BadImage:
    """Decode a PNG, JPEG or DICOM file by :func:`decode`; in place of a picture, what is wrong with the file.

    Args:
        path: The file.
        at_least: As for ``decode``.
    """
    try:
        if not S_ISREG(path.stat().st_mode):
            return BadImage("is not a regular file", where=str(path))
        return decode(path.read_bytes(), name=str(path), at_least=at_least)
    except BadImage as error:
        return error
    except OSError as error:
        return BadImage(f"cannot be read ({error.strerror})", where=str(path))


def size_of(path: Path) -> tuple[int, int] | None:
    """Height and width of a picture by the beginning of its file; None where that does not tell.

    Args:
        path: A regular file.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if is_dicom(file.read(BEGINNING)):
                return dicom_size(path)
            with Image.open(file, formats=("PNG", "JPEG")) as image:
                return image.height, image.width
    except Exception:  # Whoever decodes it says what is wrong.
        return None


def _jpeg(image: Image.Image, data: bytes) -> Image.Image:
    """An opened JPEG, decoded."""
    try:
        pixels = listen(data, image.mode, image.height, image.width)
    except BadImage:
        image.load()  # It has its own words for what is cut off.
        raise
    if pixels is None or image.mode == "CMYK" or pixels.shape[:2] != (image.height, image.width):
        image.load()
        return image
    found = Image.fromarray(pixels)
    found.info = image.info
    return found


def _grey(image: Image.Image) -> Image.Image:
    if image.mode == "CMYK" and "adobe" not in image.info:
        # Pillow takes every file for one of Adobe's, whose inks are inverted.
        image = ImageChops.invert(image)
    if image.mode.startswith("I"):
        return Image.fromarray(expose(np.clip(np.asarray(image), 0, 65535).astype(np.uint16)))
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode in ("LA", "RGBA", "PA"):
        image = image if image.mode != "PA" else image.convert("RGBA")
        # Multiplying by an opaque channel leaves every value as it was.
        return ImageChops.multiply(image.convert("L"), image.getchannel("A"))
    return image.copy() if image.mode == "L" else image.convert("L")


def listed(root: Path, folders: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each folder, relative to a root, with each name in it; none of a folder that is not there."""
    # One listing per folder: a stat per image takes minutes on a network disk.
    for folder in folders:
        try:
            names = os.listdir(root / folder)
        except OSError:
            continue
        yield from ((folder, name) for name in names)


def _negative(picture: Image.Image) -> Image.Image:
    negative = ImageOps.invert(picture)
    negative.info = picture.info
    return negative


def _composed(path: Path, root: Path) -> Path:
    """A file below a folder whose letters are composed otherwise (ä, or a with two dots); if none is, as given.

    macOS stores names decomposed, and most else composed.
    """
    found = root
    for part in path.relative_to(root).parts:
        forms = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        there = next((form for form in forms if os.path.exists(found / form)), None)
        if there is None:
            return path
        found /= there
    return found


@dataclass(frozen=True)
class FileImages:
    """Pictures in files; an ``ImageSource``.

    Args:
        paths: File of each row, shape (N,), relative to ``root`` where that is given.
        root: Folder of the data set.
        inverted: Which rows' pictures are stored black for white, bool (N,), and are inverted; none if left out.
    """

    paths: Array
    root: Path | None = None
    inverted: BoolArray | None = None

    def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image | BadImage]:
        """The pictures of some rows as 8-bit grey; in place of an unreadable one, what is wrong with it.

        Args:
            rows: Which pictures.
            at_least: As for ``decode``.
        """
        paths = [self.path(int(row)) for row in rows]
        pictures = decoded(paths, at_least)
        if pictures is None:
            pictures = [decode_file(path, at_least) for path in paths]
        return [
            _negative(picture) if turn and not isinstance(picture, BadImage) else picture
            for picture, turn in zip(pictures, self._turned(rows), strict=True)
        ]

    def keys(self, rows: IntArray) -> list[bytes | None]:
        """A digest of each row's file and of how it is decoded, or None where there is none.

        Another picture of the same file has another: features of the two must not be taken for each other.
        """
        digests = file_digests([self.path(int(row)) for row in rows])
        return [
            None
            if digest is None
            else hashlib.sha256(DECODER + (b"inverted" if turn else b"") + digest).digest()
            for digest, turn in zip(digests, self._turned(rows), strict=True)
        ]

    def exists(self, rows: IntArray) -> BoolArray:
        """Which rows have a file."""
        return np.array([os.path.isfile(self.path(int(row))) for row in rows], dtype=bool)

    def describe(self, row: int) -> str:
        """The row's file name as stored, relative to the root."""
        return str(self.paths[row])

    def path(self, row: int) -> Path:
        """The row's file, though its name be composed of other characters on disk than in the table."""
        name = str(self.paths[row])
        path = Path(name) if self.root is None else self.root / name
        return (
            path
            if name.isascii() or os.path.exists(path)
            else _composed(path, self.root or Path(path.anchor))
        )

    def _turned(self, rows: IntArray) -> list[bool]:
        return [False] * len(rows) if self.inverted is None else [bool(turn) for turn in self.inverted[rows]]
