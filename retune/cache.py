"""Where retune keeps what it never computes twice."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import Final

from retune.errors import StorageError, UserError
from retune.files import group_of
from retune.progress import Progress, silent
from retune.system import cores

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
OWN: Final = "let its owner share it (chmod g+rw), or set RETUNE_CACHE to a folder of your own"
_TOGETHER: Final = 500
"""Files whose digests are asked for at a time."""
_TICK: Final = 50_000_000
"""Nanoseconds; the clock that stamps files moves at least as often."""


class DamagedDigests(StorageError):
    """The file that remembers digests is none."""


def cache_dir() -> Path:
    """The folder of features and digests: ``$RETUNE_CACHE``, else ``~/.cache/retune``.

    Raises:
        UserError: If it cannot be made or looked into.
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
    try:
        os.scandir(base).close()
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(base), fix=OWN) from error
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
    stats = _stats(paths)
    with _remembered() as db:
        return _digests(db, stats)


def forget_digests() -> None:
    """Let every file be read anew when its digest is next asked for.

    Raises:
        StorageError: If the cache cannot be used.
    """
    with _remembered() as db, db:
        db.execute("DELETE FROM file")


def changed_files(progress: Progress = silent, *, beside: Path | None = None) -> list[str]:
    """Files that are not what their remembered digest says, though nothing of them tells; these digests are forgotten.

    Args:
        progress: Told how many files are read.
        beside: Files in this folder are not looked at.

    Raises:
        StorageError: If the cache cannot be used.
    """
    left_out = None if beside is None else os.path.join(os.path.realpath(beside), "")
    wrong = []
    with _remembered() as db:
        kept = {row[:-1]: row[-1] for row in db.execute(f"SELECT {_COLUMNS} FROM file").fetchall()}
        looked_at = [path for path, *_ in kept if left_out is None or not path.startswith(left_out)]
        same = [stat for stat in _stats(looked_at) if stat is not None and stat in kept]
        for start in range(0, len(same), _TOGETHER):
            some = same[start : start + _TOGETHER]
            for stat, digest in zip(some, _read([path for path, *_ in some]), strict=True):
                # What cannot be read is nobody's word against it.
                if digest not in (kept[stat], None):
                    wrong.append(stat[0])
            progress("comparing files", start + len(some), len(same))
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
            raise StorageError(f"{path}: cannot be used ({error}); {OWN}") from error
        raise DamagedDigests(f"{path}: is damaged ({error}); 'retune cache verify' removes it") from error


def _digests(db: sqlite3.Connection, stats: list[_Stat | None]) -> list[bytes | None]:
    found: dict[_Stat, bytes | None] = {}
    # Text for sqlite, whatever bytes a name is of.
    keys = {
        stat: (os.fsencode(stat[0]).decode(errors="backslashreplace"), *stat[1:]) for stat in stats if stat
    }
    paths = [key[0] for key in keys.values()]
    for some in (paths[start : start + _TOGETHER] for start in range(0, len(paths), _TOGETHER)):
        query = f"SELECT {_COLUMNS} FROM file WHERE path IN ({', '.join('?' * len(some))})"
        found.update((row[:-1], row[-1]) for row in db.execute(query, some))
    new = [stat for stat, key in keys.items() if key not in found]
    # What was written a moment ago may be written again without another time.
    settled = time.time_ns() - _TICK
    read = dict(zip(new, _read([path for path, *_ in new]), strict=True))
    with db:
        db.executemany(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?)",
            [(*keys[stat], digest) for stat, digest in read.items() if digest and max(stat[2:4]) < settled],
        )
    found.update((keys[stat], digest) for stat, digest in read.items())
    return [found[keys[stat]] if stat else None for stat in stats]


def _stats(paths: Iterable[str | Path]) -> list[_Stat | None]:
    folders: dict[str, str] = {}
    return [_stat(os.fspath(path), folders) for path in paths]


def _stat(path: str, folders: dict[str, str]) -> _Stat | None:
    """What there is of a file; ``folders`` remembers where each really lies, which takes longer to find."""
    try:
        stat = os.lstat(path)
        if S_ISLNK(stat.st_mode):
            path = os.path.realpath(path)
            stat = os.stat(path)
    except OSError:
        return None
    if not S_ISREG(stat.st_mode):
        return None
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    real = os.path.join(folders[folder], name)
    return real, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, str(stat.st_ino)


def _read(paths: Sequence[str]) -> list[bytes | None]:
    if len(paths) < 2:
        return list(map(_digest, paths))
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(_digest, paths))


def _digest(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
