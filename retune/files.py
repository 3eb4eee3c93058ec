"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IRGRP, S_IWGRP
from typing import Final

from retune.errors import StorageError, UserError

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
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
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
