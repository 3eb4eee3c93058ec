"""Looking after the feature store: what is in it, whether it is sound, and clearing it up."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from retune.errors import RunConflict
from retune.features.store import ABOUT, DTYPES, SUFFIX, Kind, open_shard, spaces_dir
from retune.progress import Progress, silent
from retune.system import safetensors_header

DAY = 86400.0


@dataclass(frozen=True)
class SpaceInfo:
    """One space of the store, as far as its file names and headers tell.

    Args:
        folder: Where it lies.
        backbone: What a person calls the backbone.
        kind: ``images``, ``tokens``, ``pixels`` or ``texts``.
        precision: Of the products behind the values; ``-`` for pixels.
        device: Kind of processor that made them; ``-`` for pixels.
        shards: Number of files.
        values: How many images or texts they hold.
        bytes: Their size.
        used: When it was last opened, seconds since 1970.
    """

    folder: Path
    backbone: str
    kind: Kind
    precision: str
    device: str
    shards: int
    values: int
    bytes: int
    used: float


def spaces() -> list[SpaceInfo]:
    """Every space of the store, by backbone and kind; nothing is verified."""
    found = [_info(folder) for folder in sorted(spaces_dir().glob("*")) if (folder / ABOUT).is_file()]
    return sorted(found, key=lambda s: (s.backbone, s.kind, s.precision, s.device, s.folder.name))


def verify(chosen: Sequence[SpaceInfo], progress: Progress = silent) -> list[Path]:
    """Read every shard; those whose bytes are not what was written are removed, and encoded again when needed.

    Args:
        chosen: Which spaces.
        progress: Told how many shards are read.

    Returns:
        The damaged files.
    """
    damaged = []
    shards = [(space, path) for space in chosen for path in _shards(space.folder)]
    for done, (space, path) in enumerate(shards, start=1):
        if open_shard(path, np.dtype(DTYPES[space.kind])) is None and path.exists():
            path.unlink(missing_ok=True)
            damaged.append(path)
        progress("verifying", done, len(shards))
    return damaged


def prune(chosen: Sequence[SpaceInfo]) -> int:
    """Remove spaces whole.

    Args:
        chosen: Which spaces.

    Returns:
        Bytes freed.

    Raises:
        RunConflict: If a process is encoding into one of them; nothing is removed then.
    """
    locks = [FileLock(space.folder / ".lock") for space in chosen]
    try:
        for lock, space in zip(locks, chosen, strict=True):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise RunConflict(
                    f"another process is encoding with {space.backbone}", where=str(space.folder)
                ) from None
        for space in chosen:
            shutil.rmtree(space.folder, ignore_errors=True)
    finally:
        for lock in locks:
            lock.release()
    return sum(space.bytes for space in chosen)


def select(
    *, backbone: str | None = None, kind: str | None = None, unused_days: float | None = None
) -> list[SpaceInfo]:
    """The spaces that fit every given criterion.

    Args:
        backbone: The backbone's name.
        kind: What is kept.
        unused_days: Not opened for so many days.
    """
    now = time.time()
    return [
        space
        for space in spaces()
        if (backbone is None or space.backbone == backbone)
        and (kind is None or space.kind == kind)
        and (unused_days is None or now - space.used >= unused_days * DAY)
    ]


def _shards(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob(f"*{SUFFIX}"))


def _info(folder: Path) -> SpaceInfo:
    about: dict[str, Any] = json.loads((folder / ABOUT).read_text())
    paths = list(_shards(folder))
    return SpaceInfo(
        folder,
        about["name"],
        about["kind"],
        about.get("precision", "-"),
        about.get("device", "-"),
        len(paths),
        sum(map(_values, paths)),
        sum(path.stat().st_size for path in paths),
        (folder / ABOUT).stat().st_mtime,
    )


def _values(path: Path) -> int:
    """Keys in a shard, by its header; 0 where that cannot be read."""
    try:
        return int(safetensors_header(path)[0]["keys"]["shape"][0])
    except (OSError, ValueError, KeyError, TypeError, IndexError, MemoryError, OverflowError):
        return 0
