"""Where retune keeps what it never computes twice."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import Final

from retune.errors import StorageError, UserError
from retune.files import group_of
from retune.progress import Progress, silent

_KEPT_FROM: Final = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_AUTH,
    }
)
"""What says that the system, other processes or rights are in the way, and not what stands in the file."""
_COLUMNS: Final = "path, size, mtime, ctime, inode, sha256"
_Stat = tuple[str, int, int, int, str]
"""Path, size, times of content and entry, and inode, as text for it may have 64 bits."""


class DamagedDigests(StorageError):
    """The file that remembers digests is none."""


def cache_dir() -> Path:
    """The folder of features and digests: ``$RETUNE_CACHE``, else ``~/.cache/retune``.

    Raises:
        UserError: If it cannot be made or written to.
    """
    root = os.environ.get("RETUNE_CACHE")
    base = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "retune"
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the cache folder ({error.strerror})",
            where=str(base),
            fix="set RETUNE_CACHE to a folder you may write to",
        ) from error
    return base


def digests_path() -> Path:
    """The file that remembers digests."""
    return cache_dir() / "digests.sqlite"


def digests_are_sound() -> bool:
    """Whether the file that remembers digests can be read as such, as far as it can be looked at."""
    try:
        with _remembered() as db:
            for _ in db.execute(f"SELECT {_COLUMNS} FROM file"):
                pass
            return bool(db.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    except DamagedDigests:
        return False
    except StorageError:  # Locked, or not ours to read.
        return True


def file_digests(paths: Sequence[str | Path]) -> list[bytes | None]:
    """SHA-256 of each file's bytes; None where there is no such file, or a pipe or device without an end.

    Digests are remembered by path, size, inode and the times of the last change of content and of the file's
    entry, so a file is read once. A copy that keeps the time of its content (``cp -p``) has another time of its
    entry, which no program can set.

    Raises:
        StorageError: If the cache cannot be used.
    """
    stats = [_stat(path) for path in paths]
    with _remembered() as db:
        return _digests(db, stats)


def forget_digests() -> None:
    """Let every file be read anew when its digest is next asked for.

    Raises:
        StorageError: If the cache cannot be used.
    """
    with _remembered() as db, db:
        db.execute("DELETE FROM file")


def changed_files(progress: Progress = silent) -> list[str]:
    """Files that are not what their remembered digest says, though nothing of them tells; these digests are forgotten.

    Args:
        progress: Told how many files are read.

    Raises:
        StorageError: If the cache cannot be used.
    """
    wrong = []
    with _remembered() as db:
        kept = db.execute(f"SELECT {_COLUMNS} FROM file").fetchall()
        for done, (*stat, digest) in enumerate(kept, start=1):
            # What cannot be read is nobody's word against it.
            if _stat(stat[0]) == tuple(stat) and _digest(stat[0]) not in (digest, None):
                wrong.append(stat[0])
            progress("comparing files", done, len(kept))
        with db:
            db.executemany("DELETE FROM file WHERE path = ?", [(path,) for path in wrong])
    return sorted(wrong)


@contextmanager
def _remembered() -> Iterator[sqlite3.Connection]:
    path = digests_path()
    new = not path.exists()
    try:
        with closing(sqlite3.connect(path, timeout=60)) as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS file "
                "(path TEXT PRIMARY KEY, size INT, mtime INT, ctime INT, inode TEXT, sha256 BLOB)"
            )
            if new and (group := group_of(path.parent)):
                with suppress(OSError):
                    path.chmod(path.stat().st_mode | group)
            yield db
    # A message of sqlite may quote what it could not decode.
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _KEPT_FROM:
            mend = "let its owner share it (chmod g+rw), or set RETUNE_CACHE to a folder of your own"
            raise StorageError(f"{path}: cannot be used ({error}); {mend}") from error
        raise DamagedDigests(f"{path}: is damaged ({error}); 'retune cache verify' removes it") from error


def _digests(db: sqlite3.Connection, stats: list[_Stat | None]) -> list[bytes | None]:
    query = "SELECT sha256 FROM file WHERE path = ? AND size = ? AND mtime = ? AND ctime = ? AND inode = ?"
    found: list[bytes | None] = []
    fresh: list[tuple[str, int, int, int, str, bytes]] = []
    for stat in stats:
        if stat is None:
            found.append(None)
            continue
        # Text for sqlite, whatever bytes a name is of.
        key = (os.fsencode(stat[0]).decode(errors="backslashreplace"), *stat[1:])
        row = db.execute(query, key).fetchone()
        if row is None:
            row = (_digest(stat[0]),)
            if row[0] is None:
                found.append(None)
                continue
            fresh.append((*key, row[0]))
        found.append(row[0])
    with db:
        db.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?)", fresh)
    return found


def _stat(path: str | Path) -> _Stat | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    there = (os.path.realpath(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, str(stat.st_ino))
    return there if S_ISREG(stat.st_mode) else None


def _digest(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
