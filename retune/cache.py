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
from retune.system import cores

_Stat = tuple[str, int, int, int, str]
"""Path, size, times of content and entry, and inode, as text for it may have 64 bits."""
OWN: Final = "let its owner share it (chmod g+rw), or set RETUNE_CACHE to a folder of your own"
_TOGETHER: Final = 500
"""Files whose digests are asked for at a time."""
_TICK: Final = 50_000_000
"""Nanoseconds; the clock that stamps files moves at least as often."""


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


def digests_are_sound(path: Path) -> bool:
    """Whether a file that remembers digests can be read as such."""
    try:
        with closing(sqlite3.connect(path, timeout=60)) as db:
            return bool(db.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.OperationalError:  # Locked, or not ours to read.
        return True
    except sqlite3.DatabaseError:
        return False


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


def changed_files(*, beside: Path | None = None) -> list[str]:
    """Files that are not what their remembered digest says, though nothing of them tells; these digests are forgotten.

    Args:
        beside: Files in this folder are not looked at.

    Raises:
        StorageError: If the cache cannot be used.
    """
    left_out = None if beside is None else os.path.join(os.path.realpath(beside), "")
    with _remembered() as db:
        kept = {row[:-1]: row[-1] for row in db.execute("SELECT * FROM file").fetchall()}
        looked_at = [path for path, *_ in kept if left_out is None or not path.startswith(left_out)]
        same = [stat for stat in _stats(looked_at) if stat is not None and stat in kept]
        found = _read([path for path, *_ in same])
        wrong = [stat[0] for stat, digest in zip(same, found, strict=True) if digest != kept[stat]]
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
    except sqlite3.OperationalError as error:
        raise StorageError(f"{path}: cannot be used ({error}); {OWN}") from error
    except sqlite3.Error as error:
        raise StorageError(f"{path}: is damaged ({error}); 'retune cache verify' removes it") from error


def _digests(db: sqlite3.Connection, stats: list[_Stat | None]) -> list[bytes | None]:
    found: dict[_Stat, bytes | None] = {}
    paths = [stat[0] for stat in stats if stat]
    for some in (paths[start : start + _TOGETHER] for start in range(0, len(paths), _TOGETHER)):
        query = f"SELECT * FROM file WHERE path IN ({', '.join('?' * len(some))})"
        found.update((row[:-1], row[-1]) for row in db.execute(query, some))
    new = [stat for stat in dict.fromkeys(stats) if stat and stat not in found]
    # What was written a moment ago may be written again without another time.
    settled = time.time_ns() - _TICK
    read = dict(zip(new, _read([path for path, *_ in new]), strict=True))
    with db:
        db.executemany(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?)",
            [(*stat, digest) for stat, digest in read.items() if digest and max(stat[2:4]) < settled],
        )
    found.update(read)
    return [found[stat] if stat else None for stat in stats]


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
