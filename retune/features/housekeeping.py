"""Looking after the feature store: what is in it, whether it is sound, and clearing it up."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from retune.cache import digests_are_sound, digests_path
from retune.errors import RunConflict, UserError
from retune.features.store import ABOUT, LOCK, SUFFIX, Kind, is_sound, read_about, spaces_dir, usable
from retune.progress import Progress, silent
from retune.system import cores, safetensors_header

DAY = 86400.0


@dataclass(frozen=True)
class SpaceInfo:
    """One space of the store, as far as its file names and headers tell.

    Args:
        folder: Where it lies.
        backbone: What a person calls the backbone.
        kind: ``images``, ``tokens``, ``pixels`` or ``texts``; this and the name are ``unknown`` where the space
            does not say, which it does again once it is used.
        precision: Of the products behind the values; ``-`` for pixels.
        device: Kind of processor that made them; ``-`` for pixels.
        shards: Number of files.
        values: How many images or texts they hold.
        bytes: Their size.
        used: When it was last opened, seconds since 1970.
    """

    folder: Path
    backbone: str
    kind: Kind | Literal["unknown"]
    precision: str
    device: str
    shards: int
    values: int
    bytes: int
    used: float


def spaces() -> list[SpaceInfo]:
    """Every space of the store, by backbone and kind; nothing is verified.

    Raises:
        UserError: If the store, or a space, cannot be looked into.
    """
    with usable(spaces_dir()):
        folders = sorted(spaces_dir().iterdir()) if spaces_dir().exists() else []
    found = [_info(folder) for folder in folders if folder.is_dir()]
    return sorted(found, key=lambda s: (s.backbone, s.kind, s.precision, s.device, s.folder.name))


def verify(chosen: Sequence[SpaceInfo], progress: Progress = silent) -> list[Path]:
    """Read every file; those whose bytes are not what was written are removed, and made again when needed.

    Args:
        chosen: Which spaces.
        progress: Told how many shards are read.

    Returns:
        The damaged files.

    Raises:
        UserError: If a file cannot be read, or is damaged and cannot be removed; the others are mended first.
    """
    damaged, refused = [], list[UserError]()

    def remove_unless(sound: bool, path: Path) -> None:
        if not sound:
            with usable(path):
                path.unlink(missing_ok=True)
            damaged.append(path)

    for path in filter(Path.exists, [digests_path()]):
        remove_unless(digests_are_sound(path), path)
    for folder in (space.folder for space in chosen):
        with _noted(refused):
            remove_unless(read_about(folder) is not None or not (folder / ABOUT).exists(), folder / ABOUT)
    shards = [path for space in chosen for path in _shards(space.folder)]
    # A disk is faster than one core hashes.
    with ThreadPoolExecutor(cores()) as pool:
        for done, (path, sound) in enumerate(zip(shards, pool.map(_looked_at, shards), strict=True), start=1):
            with _noted(refused):
                if isinstance(sound, UserError):
                    raise sound
                remove_unless(sound, path)
            progress("verifying", done, len(shards))
    if refused:
        raise refused[0]
    return damaged


def prune(chosen: Sequence[SpaceInfo]) -> int:
    """Remove spaces whole.

    Args:
        chosen: Which spaces.

    Returns:
        Bytes freed.

    Raises:
        RunConflict: If a process is encoding into one of them; nothing is removed then.
        UserError: If another user's cannot be removed.
    """
    locks = [FileLock(space.folder / LOCK, mode=0o666) for space in chosen]
    try:
        for lock, space in zip(locks, chosen, strict=True):
            try:
                with usable(space.folder / LOCK):
                    lock.acquire(timeout=0)
            except Timeout:
                raise RunConflict(
                    f"another process is encoding with {space.backbone}", where=str(space.folder)
                ) from None
        for space in chosen:
            with usable(space.folder), suppress(FileNotFoundError):
                _remove(space.folder)
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


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except PermissionError as error:  # It names a file within without its folder.
        raise PermissionError(error.errno, error.strerror, str(folder)) from error


def _shards(folder: Path) -> list[Path]:
    with usable(folder):
        return sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))


def _info(folder: Path) -> SpaceInfo:
    try:
        about = read_about(folder) or {}
        used = (folder / ABOUT if about else folder).stat().st_mtime
    except (OSError, UserError):
        about, used = {}, 0.0
    paths = _shards(folder)
    return SpaceInfo(
        folder,
        about.get("name", "unknown"),
        about.get("kind", "unknown"),
        about.get("precision", "-"),
        about.get("device", "-"),
        len(paths),
        sum(map(_values, paths)),
        sum(map(_size, paths)),
        used,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _looked_at(path: Path) -> bool | UserError:
    """Whether a shard is sound, or why that cannot be told."""
    try:
        return is_sound(path)
    except UserError as error:
        return error


@contextmanager
def _noted(refused: list[UserError]) -> Iterator[None]:
    """Go on where one file cannot be looked at."""
    try:
        yield
    except UserError as error:
        refused.append(error)


def _values(path: Path) -> int:
    """Keys in a shard, by its header; 0 where that cannot be read."""
    try:
        return int(safetensors_header(path)[0]["keys"]["shape"][0])
    except (OSError, ValueError, KeyError, TypeError, IndexError, MemoryError, OverflowError):
        return 0
