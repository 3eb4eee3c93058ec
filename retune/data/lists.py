"""Files that people have under other names: the ones a reader looks for, and the lists that it leaves unread."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from retune.errors import BadTable, MissingFiles

_PICTURES: Final = re.compile(
    r"images?([-_ ].*|\d.*)?|files|train|valid|val|test|chexpert-v1.*|p?\d+|patient.*|\..*", re.IGNORECASE
)
"""Folders of pictures, too large to be looked through for a list."""
_LIST: Final = re.compile(
    r"(?=.*(list|split|test|train|valid|val[-_. ]|fold|ground[-_ ]?truth))"
    r"(.*\.(txt|csv|tsv|lst|list|tab|json)(\.gz)?|[^.]+)",
    re.IGNORECASE,
)
_KNOWN: Final = re.compile(
    r"bbox_list.*|annotations_(train|test)\.csv|train_(visual)?chexbert\.csv", re.IGNORECASE
)
"""Files of the publishers that are called like a list, and are none of a split."""
_TABLE: Final = re.compile(r"\.(txt|csv|tsv|lst|list|tab|json)(\.gz)?$|^[^.]+$", re.IGNORECASE)
_IMAGE: Final = re.compile(
    rb"\.(?:png|jpe?g|dcm|dicom)\b|patient\d+/study\d|\b[0-9a-f]{8}-[0-9a-f]{8}-|\b[0-9a-f]{32}\b",
    re.IGNORECASE,
)
"""What names an image in NIH's, CheXpert's, PadChest's tables, in MIMIC-CXR's and in VinDr-CXR's."""
_ENOUGH: Final = 1 << 16
"""So many bytes show whether a file holds the names of images."""


def look_for(root: Path, names: Sequence[str], *, deep: bool = False) -> Path | None:
    """The file of one of these names in a folder, plain or as ``.gz``; None where there is none.

    Args:
        root: Folder to look in.
        names: File names, the preferred one first. Capitals count only where two names differ in them alone.
        deep: Whether to look into the folders within, too, those of pictures excepted.

    Raises:
        BadTable: If several files may be the one meant.
    """
    for name in names:
        for path in (root / name, root / f"{name}.gz"):
            if path.is_file():
                return path
    for folders in ([root], _inner(root) if deep else []):
        for name in names:
            wanted = {name.casefold(), f"{name}.gz".casefold()}
            found = [path for folder in folders for path in _files(folder) if path.name.casefold() in wanted]
            if len(found) > 1:
                listed = " and ".join(path.relative_to(root).as_posix() for path in found)
                fix = f"keep one of them, as {name}"
                raise BadTable(f"{listed} may both be {name}", where=str(root), fix=fix)
            if found:
                return found[0]
    return None


def unread(root: Path, read: Collection[Path], use: str) -> tuple[str, ...]:
    """A note that names what looks like a list of a split and was not read; none where there is none.

    Args:
        root: The data set's folder; the folders in it are looked through, too, those of pictures excepted.
        read: The files that were read.
        use: How a user makes use of such a file.
    """
    files = [path for folder in (root, *_inner(root)) for path in _files(folder)]
    left = [path for path in files if path not in read and _is_list(path.name) and _holds_images(path)]
    if not left:
        return ()
    listed = ", ".join(path.relative_to(root).as_posix() for path in left[:5])
    return (f"Not read, though it names images: {listed}{', ...' if len(left) > 5 else ''} ({use})",)


def _files(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name[0] != "." and not e.is_dir() and _TABLE.search(e.name)]
    except OSError as error:
        raise MissingFiles(f"cannot be read ({error.strerror})", where=str(folder)) from error
    return [folder / name for name in sorted(names)]


def _inner(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            names = sorted(e.name for e in entries if not _PICTURES.fullmatch(e.name) and e.is_dir())
    except OSError:
        return []
    return [root / name for name in names if os.access(root / name, os.R_OK | os.X_OK)]


def _is_list(name: str) -> bool:
    return _LIST.fullmatch(name) is not None and _KNOWN.fullmatch(name) is None


def _holds_images(path: Path) -> bool:
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            return _IMAGE.search(file.read(_ENOUGH).replace(b"\0", b"")) is not None
    except (OSError, EOFError, zlib.error):
        return False
