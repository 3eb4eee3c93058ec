"""The feature store on disk: content-addressed shards that survive a kill and notice damage.

A space holds what one backbone makes of images or texts in one arithmetic. It is a folder of shards,
each a safetensors file of keys (digests of content) and values whose name is the SHA-256 of its bytes:
a killed process loses at most the shard it was making, two processes cannot harm each other, and
a shard that is not what its name says is thrown away and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from safetensors.numpy import save

from retune.cache import cache_dir
from retune.data.dataset import Array, IntArray
from retune.errors import UserError
from retune.files import make_shared, write_whole
from retune.system import map_array, safetensors_header, take_rows

Kind = Literal["images", "tokens", "pixels", "texts"]
Keys = npt.NDArray[np.uint8]

DTYPES: Final[dict[Kind, type[np.generic]]] = {
    "images": np.float32,
    "tokens": np.float16,
    "pixels": np.uint8,
    "texts": np.float32,
}
"""Vectors keep their bits; what is large is kept small."""
ABOUT: Final = "about.json"
LOCK: Final = ".lock"
SUFFIX: Final = ".safetensors"
MEND: Final = "let its owner share it (chmod g+rw), remove it, or set RETUNE_CACHE to a folder of your own"


def spaces_dir() -> Path:
    """The folder that holds every space."""
    return cache_dir() / "features"


class Space:
    """What one backbone makes of content of one kind, on disk.

    Args:
        about: Whatever determines a value beside the content: backbone, kind, precision ...
        kind: What is kept.
        name: What a person would call the backbone; it does not count.
    """

    def __init__(self, about: dict[str, Any], kind: Kind, *, name: str) -> None:
        self.kind = kind
        self.dtype = np.dtype(DTYPES[kind])
        text = json.dumps({**about, "kind": kind}, sort_keys=True)
        self.folder = spaces_dir() / hashlib.sha256(text.encode()).hexdigest()[:32]
        # Not only its maker may take it: a store may be several users'.
        self._lock = FileLock(self.folder / LOCK, mode=0o666)
        if read_about(self.folder) is None:
            facts = {**about, "kind": kind, "name": name}
            with usable(self.folder):
                make_shared(self.folder.parent)
                make_shared(self.folder)
                write_whole(
                    self.folder / ABOUT, (json.dumps(facts, sort_keys=True) + "\n").encode(), shared=True
                )
        # When it was last used, for those who clear up.
        with suppress(OSError):
            os.utime(self.folder / ABOUT)
        self._opened: dict[str, Shard] = {}
        self._known = np.empty(0, dtype="V32")
        self._row = np.empty(0, dtype=np.int64)
        self.refresh()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one process that adds to the space.

        Raises:
            UserError: If the lock belongs to a user who does not share it.
        """
        with usable(self.folder / LOCK):
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def refresh(self) -> None:
        """Take in shards that have appeared; remove damaged ones, so that they are made again.

        Raises:
            UserError: If one cannot be read, or is damaged and cannot be removed.
        """
        new = False
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            if path.name in self._opened:
                continue
            shard = open_shard(path, self.dtype)
            if shard is None:
                with usable(path):
                    path.unlink(missing_ok=True)
            else:
                self._opened[path.name] = shard
                new = True
        if new:
            keys = as_void(np.concatenate([shard.keys for shard in self._opened.values()]))
            self._known, self._row = np.unique(keys, return_index=True)

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """Shape of one value; None while there is none."""
        return next((shard.values.shape[1:] for shard in self._opened.values()), None)

    def find(self, keys: Keys) -> IntArray:
        """Row of each key in this space, -1 where it is not there; (n, 32) to (n,)."""
        if not len(self._known):
            return np.full(len(keys), -1, dtype=np.int64)
        wanted = as_void(keys)
        place = np.minimum(np.searchsorted(self._known, wanted), len(self._known) - 1)
        return np.where(self._known[place] == wanted, self._row[place], -1)

    def first_missing(self, keys: Keys) -> IntArray:
        """Positions of the first of each distinct key that the space lacks, ascending."""
        missing = np.flatnonzero(self.find(keys) < 0)
        _, first = np.unique(as_void(keys[missing]), return_index=True)
        return np.sort(missing[first])

    def gather(self, rows: IntArray) -> Array:
        """Copy rows out of the memory-mapped shards; (n,) to (n, ...)."""
        out = np.empty((len(rows), *(self.row_shape or (0,))), dtype=self.dtype)
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        start = 0
        for shard in self._opened.values():
            low, high = np.searchsorted(ordered, (start, start + len(shard.keys)))
            if high > low:
                part = np.empty((high - low, *out.shape[1:]), dtype=self.dtype)
                take_rows(shard.values, ordered[low:high] - start, part)
                out[order[low:high]] = part
            start += len(shard.keys)
        return out

    def add(self, keys: Keys, values: Array) -> None:
        """Write one shard."""
        data = save({"values": np.ascontiguousarray(values, dtype=self.dtype), "keys": keys})
        with usable(self.folder):
            write_whole(self.folder / f"{hashlib.sha256(data).hexdigest()}{SUFFIX}", data, shared=True)


@dataclass(frozen=True)
class Shard:
    """One file of a space: keys (n, 32) in memory and values (n, ...) memory-mapped."""

    keys: Keys
    values: Array


@contextmanager
def usable(path: Path) -> Iterator[None]:
    """Turn what the system says of a file of the store into one line for the user.

    Raises:
        UserError: If the user may not read it, write it or take it.
    """
    try:
        yield
    except OSError as error:
        where, what = str(error.filename or path), f"cannot be used ({error.strerror or error})"
        raise UserError(what, where=where, fix=MEND) from error
    except UserError as error:
        # Files of the store are not chosen with --out.
        raise UserError(error.what, where=error.where, fix=MEND) from error


def read_about(folder: Path) -> dict[str, Any] | None:
    """What a space says of itself; None where it says nothing, or what it says is damaged.

    Raises:
        UserError: If it cannot be read.
    """
    with usable(folder / ABOUT):
        try:
            found = json.loads((folder / ABOUT).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
    return found if isinstance(found, dict) and found.get("kind") in DTYPES and "name" in found else None


def is_sound(path: Path) -> bool:
    """Whether a shard's bytes are those it was written with; so is one that has gone.

    Raises:
        UserError: If it cannot be read.
    """
    with usable(path), suppress(FileNotFoundError), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.stem
    return True


def open_shard(path: Path, dtype: np.dtype[Any]) -> Shard | None:
    """A shard, or None where its bytes are not those it was written with.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        if not is_sound(path):
            return None
        header, start = safetensors_header(path)
    except FileNotFoundError:  # Another process found it damaged, or it was pruned.
        return None
    keys, values = (
        map_array(path, kind, header[name]["shape"], start + header[name]["data_offsets"][0])
        for name, kind in (("keys", "u1"), ("values", dtype.str))
    )
    return Shard(np.array(keys), values)


def as_keys(digests: Sequence[bytes]) -> Keys:
    """Digests of 32 bytes as a matrix (n, 32)."""
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)


def as_void(keys: Keys) -> npt.NDArray[Any]:
    """Keys (n, 32) as one sortable value each, (n,)."""
    return np.ascontiguousarray(keys).view("V32").reshape(-1)
