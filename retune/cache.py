"""Where retune keeps what it never computes twice."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from stat import S_ISREG

from retune.errors import StorageError, UserError
from retune.files import group_of


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

    Digests are remembered by path, size and modification time, so a file is read once.

    Raises:
        StorageError: If the cache cannot be written.
    """
    stats: list[tuple[str, int, int] | None] = []
    for path in paths:
        try:
            stat = os.stat(path)
        except OSError:
            stats.append(None)
        else:
            there = (os.path.realpath(path), stat.st_size, stat.st_mtime_ns)
            stats.append(there if S_ISREG(stat.st_mode) else None)
    path = digests_path()
    new = not path.exists()
    try:
        with closing(sqlite3.connect(path, timeout=60)) as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS digest (path TEXT PRIMARY KEY, size INT, mtime INT, sha256 BLOB)"
            )
            if new and (group := group_of(path.parent)):
                with suppress(OSError):
                    path.chmod(path.stat().st_mode | group)
            return _digests(db, stats)
    except sqlite3.OperationalError as error:
        mend = "let its owner share it (chmod g+rw), or set RETUNE_CACHE to a folder of your own"
        raise StorageError(f"{path}: cannot be used ({error}); {mend}") from error
    except sqlite3.Error as error:
        raise StorageError(f"{path}: is damaged ({error}); 'retune cache verify' removes it") from error


def _digests(db: sqlite3.Connection, stats: list[tuple[str, int, int] | None]) -> list[bytes | None]:
    query = "SELECT sha256 FROM digest WHERE path = ? AND size = ? AND mtime = ?"
    found: list[bytes | None] = []
    fresh: list[tuple[str, int, int, bytes]] = []
    for stat in stats:
        if stat is None:
            found.append(None)
            continue
        row = db.execute(query, stat).fetchone()
        if row is None:
            try:
                with open(stat[0], "rb") as file:
                    row = (hashlib.file_digest(file, "sha256").digest(),)
            except OSError:
                found.append(None)
                continue
            fresh.append((*stat, row[0]))
        found.append(row[0])
    with db:
        db.executemany("INSERT OR REPLACE INTO digest VALUES (?, ?, ?, ?)", fresh)
    return found
