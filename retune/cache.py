"""Where retune keeps what it never computes twice."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from stat import S_ISREG

from retune.errors import StorageError, UserError
from retune.files import group_of
from retune.system import cores

_Stat = tuple[str, int, int, int, str]
"""Path, size, times of content and entry, and inode, as text for it may have 64 bits."""


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


def changed_files() -> list[str]:
    """Files that are not what their remembered digest says, though nothing of them tells; these digests are forgotten.

    Raises:
        StorageError: If the cache cannot be used.
    """
    with _remembered() as db:
        kept = {row[:-1]: row[-1] for row in db.execute("SELECT * FROM file").fetchall()}
        wrong = [
            stat[0] for stat, digest in kept.items() if _stat(stat[0]) == stat and _digest(stat[0]) != digest
        ]
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
        mend = "let its owner share it (chmod g+rw), or set RETUNE_CACHE to a folder of your own"
        raise StorageError(f"{path}: cannot be used ({error}); {mend}") from error
    except sqlite3.Error as error:
        raise StorageError(f"{path}: is damaged ({error}); 'retune cache verify' removes it") from error


def _digests(db: sqlite3.Connection, stats: list[_Stat | None]) -> list[bytes | None]:
    query = "SELECT sha256 FROM file WHERE path = ? AND size = ? AND mtime = ? AND ctime = ? AND inode = ?"
    known = {stat: row[0] for stat in stats if stat and (row := db.execute(query, stat).fetchone())}
    new = list(dict.fromkeys(stat for stat in stats if stat and stat not in known))
    if not new:
        return [known[stat] if stat else None for stat in stats]
    # Reading and hashing both let other threads run.
    with ThreadPoolExecutor(cores()) as pool:
        digests = dict(zip(new, pool.map(_digest, (stat[0] for stat in new)), strict=True))
    with db:
        db.executemany(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?)",
            [(*stat, digest) for stat, digest in digests.items() if digest],
        )
    found = known | digests
    return [found[stat] if stat else None for stat in stats]


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
