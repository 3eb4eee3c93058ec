"""Writing files whole or not at all, and reading no more of one than any honest one holds."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IRGRP, S_IWGRP, S_IXGRP
from typing import IO, Any, Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from retune.errors import StorageError, UserError

MOST: Final = 2**28
"""Bytes that a file of text may hold: results, prompt banks, settings of models."""
PARTIAL: Final = ".partial-"
"""How the names of files begin that are not yet whole."""
PIECE: Final = 2**20
LARGER: Final = 100
"""Times that an npz may be larger unpacked: features and pictures hardly shrink."""
FREE: Final = 10**8
"""Bytes that it may always unpack to."""
DAMAGE: Final = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    MemoryError,
    OSError,
    # Of a member that is encrypted, or packed in a way that is not known, or too deep.
    RuntimeError,
    SyntaxError,
    IndexError,
    AttributeError,
    OverflowError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged file of arrays raises."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN: Final = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOENT,
)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what the system says of a folder or file into one line for the user.

    Args:
        path: What is being made or written.

    Raises:
        StorageError: If the disk is full or fails.
        UserError: If the user may not write there, or something is in the way.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FORBIDDEN:
            raise UserError(
                f"cannot write here ({error.strerror})",
                where=str(path),
                fix="choose another folder with --out",
            ) from error
        reason = "the disk is full" if error.errno in _FULL else f"cannot write ({error.strerror or error})"
        raise StorageError(
            f"{path}: {reason}; what was finished is kept, and the same command continues"
        ) from error


def make_folder(path: Path) -> None:
    """Make a folder and its parents.

    Raises:
        StorageError: If the disk is full.
        UserError: If it cannot be made there.
    """
    with storing(path):
        path.mkdir(parents=True, exist_ok=True)


def group_of(folder: Path) -> int:
    """What the group may do with files of a folder that it may write to; nothing where it may not."""
    mode = folder.stat().st_mode
    return mode & (S_IRGRP | S_IWGRP) if mode & S_IWGRP else 0


def make_shared(folder: Path) -> None:
    """Make a folder; where the group may write to the one around it, it may write to this one.

    Raises:
        StorageError: If the disk is full.
        UserError: If it cannot be made there.
    """
    if not folder.is_dir():
        make_folder(folder)
        if group := group_of(folder.parent):
            folder.chmod(folder.stat().st_mode | group | S_IXGRP)


def clear_partial(folder: Path) -> None:
    """Remove the files that a killed process left half-written in a folder where nobody else writes now."""
    for left in folder.glob(f"{PARTIAL}*"):
        left.unlink(missing_ok=True)


def write_whole(
    path: Path,
    data: bytes | Iterable[bytes | memoryview],
    *,
    wanted: Callable[[], bool] = lambda: True,
    shared: bool = False,
) -> None:
    """Write a file so that a reader, or a crash, sees all of it or none.

    Args:
        path: The file; an older one is replaced.
        data: Its content, whole or piece by piece.
        wanted: Asked once all is written; where it says no, an older file stays as it is.
        shared: Whether the folder's group may do with the file what it may do with the folder, whatever the umask.

    Raises:
        StorageError: If the disk is full or fails.
        UserError: If the user may not write there.
    """
    with storing(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=PARTIAL)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines([data] if isinstance(data, bytes) else data)
                file.flush()
                os.fsync(file.fileno())
            if not wanted():
                return
            # mkstemp makes files private; give the new file the user's ordinary permissions.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask | (group_of(path.parent) if shared else 0))
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)


def read_most(file: IO[bytes], most: int) -> bytes | None:
    """What is left of an open file; None where that is more than ``most`` bytes, of which no more is then read.

    Args:
        file: A file, a pipe, or something that unpacks as it is read.
        most: How many bytes it may hold.
    """
    held = io.BytesIO()
    # In pieces: as much is set aside at once as is asked for.
    while piece := file.read(min(PIECE, most + 1 - held.tell())):
        held.write(piece)
        if held.tell() > most:
            return None
    return held.getvalue()


def read_small(path: Path, most: int = MOST) -> bytes:
    """A file of text that is read at once.

    Args:
        path: The file.
        most: How many bytes it may hold.

    Raises:
        OSError: If it cannot be read.
        UserError: If it is larger.
    """
    with path.open("rb") as file:
        content = read_most(file, most) if os.fstat(file.fileno()).st_size <= most else None
    if content is None:
        what = f"is larger than {most // 2**20:,} MiB, which no such file needs"
        raise UserError(what, where=str(path), fix="see whether it is the file that was meant")
    return content


def require_plain(path: Path) -> None:
    """See that every member of an npz has a name of its own, and that a few bytes do not become gigabytes.

    Raises:
        ValueError: If two members have one name; and what :data:`DAMAGE` names, if it is none.
        UserError: If it unpacks to more than a file of its size does.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    names = {member.filename for member in members}
    if len(names) < len(members):
        raise ValueError("two members have one name")
    most = max(FREE, LARGER * path.stat().st_size)
    if sum(member.file_size for member in members) > most:
        raise UserError(
            f"unpacks to more than {most / 1e6:,.0f} MB, {LARGER} times its size",
            where=str(path),
            fix="if that is right, save it unpacked (numpy.savez)",
        )


def parse_xml(data: bytes) -> Element:
    """The root of an XML document that anyone may have written.

    Nothing that a document defines is looked up or unfolded: whatever declares a type or an entity is refused.

    Args:
        data: The document.

    Raises:
        ValueError: If it is none, or declares anything.
    """

    def refuse(*_: object) -> None:
        raise ValueError("declares a type of its own, which no such file needs")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, LookupError, AssertionError) as error:
        raise ValueError(f"is no XML ({error})") from error


def parse_json(text: str | bytes, *, once: bool = False) -> Any:
    """JSON that anyone may have written.

    Args:
        text: The JSON.
        once: Whether no key of an object may stand twice; else the last of them counts.

    Raises:
        ValueError: If it is none, or is nested too deeply to be read.
    """
    try:
        return json.loads(text, object_pairs_hook=_once if once else None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("two entries have one name")
    return found


def safetensors_header(path: Path) -> tuple[dict[str, Any], int]:
    """What a safetensors file says of its arrays, and where their values begin; nothing is checked.

    Raises:
        OSError: If it cannot be read.
        ValueError: If that is no JSON.
    """
    with path.open("rb") as file:
        return read_header(file)


def read_header(file: IO[bytes]) -> tuple[dict[str, Any], int]:
    """What :func:`safetensors_header` tells, of a file open at its start."""
    length = int.from_bytes(file.read(8), "little")
    return parse_json(file.read(length), once=True), 8 + length
