"""The feature store on disk: content-addressed shards that survive a kill and notice damage.

A space holds what one backbone makes of images or texts in one arithmetic. It is a folder of shards,
each a safetensors file of keys (digests of content) and values whose name is the SHA-256 of its bytes:
a killed process loses at most the shard it was making, two processes cannot harm each other, and
a shard that is not what its name says is thrown away and made again. It is read whole for that when it
is first seen, and again once anything of the file tells that it may have changed, as pictures are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from safetensors.numpy import save

from retune.cache import cache_dir, file_digests
from retune.data.dataset import Array, IntArray
from retune.errors import StorageError, UserError
from retune.files import make_shared, parse_json, read_header, write_whole
from retune.system import map_array, take_rows

Kind = Literal["images", "tokens", "pixels", "texts", "masks"]
Keys = npt.NDArray[np.uint8]

DTYPES: Final[dict[Kind, type[np.generic]]] = {
    "images": np.float32,
    "tokens": np.float16,
    "pixels": np.uint8,
    "texts": np.float32,
    "masks": np.uint8,
}
"""Vectors keep their bits; what is large is kept small."""
ABOUT: Final = "about.json"
LOCK: Final = ".lock"
SUFFIX: Final = ".safetensors"
MAPPED: Final = 32
"""Shards of the whole process that are mapped at a time: each takes a file descriptor, of which 1,024 are usual."""
MEND: Final = "let its owner share it (chmod g+rw), remove it, or set RETUNE_CACHE to a folder of your own"


def spaces_dir() -> Path:
    """The folder that holds every space."""
    return cache_dir() / "features"


def place_of(about: dict[str, Any], kind: Kind) -> Path:
    """The folder of a space, whether it is there or not.

    Args:
        about: Whatever determines a value beside the content: backbone, precision ...
        kind: What is kept.
    """
    text = json.dumps({**about, "kind": kind}, sort_keys=True)
    return spaces_dir() / hashlib.sha256(text.encode()).hexdigest()[:32]


class Space:
    """What one backbone makes of content of one kind, on disk.

    Args:
        about: Whatever determines a value beside the content: backbone, kind, precision ...
        kind: What is kept.
        name: What a person would call the backbone; it does not count.

    Attributes:
        keys: Every key that it holds, row by row, (n, 32).
    """

    def __init__(self, about: dict[str, Any], kind: Kind, *, name: str) -> None:
        self.kind = kind
        self.dtype = np.dtype(DTYPES[kind])
        self.folder = place_of(about, kind)
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
        self.keys: Keys = np.empty((0, 32), dtype=np.uint8)
        self._starts = np.zeros(1, dtype=np.int64)
        self._index = Index(self.keys)
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
        names = sorted(os.listdir(self.folder)) if self.folder.is_dir() else []
        paths = [self.folder / name for name in names if name.endswith(SUFFIX) and name not in self._opened]
        try:
            digests = file_digests(paths)
        except StorageError:  # Where digests cannot be remembered, every file is read.
            digests = [None] * len(paths)
        new = list[Keys]()
        for path, digest in zip(paths, digests, strict=True):
            found = open_shard(path, self.dtype, sound=digest is not None and digest.hex() == path.stem)
            if found is None:
                with usable(path):
                    path.unlink(missing_ok=True)
            else:
                self._opened[path.name], keys = found
                new.append(keys)
        if new:
            self.keys = np.concatenate([self.keys, *new])
            self._starts = np.cumsum([0, *(shard.shape[0] for shard in self._opened.values())])
            self._index = Index(self.keys)

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """Shape of one value; None while there is none."""
        return next((shard.shape[1:] for shard in self._opened.values()), None)

    def find(self, keys: Keys) -> IntArray:
        """Row of each key in this space, -1 where it is not there; (n, 32) to (n,)."""
        return self._index.find(keys)

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
        holder = np.searchsorted(self._starts, ordered, side="right") - 1
        shards = list(self._opened.values())
        for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(holder)) + 1):
            if len(part):
                number = int(holder[part[0]])
                values = np.empty((len(part), *out.shape[1:]), dtype=self.dtype)
                take_rows(mapped(shards[number]), ordered[part] - self._starts[number], values)
                out[order[part]] = values
        return out

    def add(self, keys: Keys, values: Array) -> None:
        """Write one shard."""
        data = save({"values": np.ascontiguousarray(values, dtype=self.dtype), "keys": keys})
        with usable(self.folder):
            write_whole(self.folder / f"{hashlib.sha256(data).hexdigest()}{SUFFIX}", data, shared=True)


class Index:
    """Finds keys among others; they are digests, so that the first bits of two are hardly ever the same.

    Args:
        keys: The keys to be found among, (N, 32); of equal ones the first is found.
    """

    def __init__(self, keys: Keys) -> None:
        self._words = _words(keys)
        # First bits and place in one number: sorting these is several times as fast as sorting keys.
        self._places = np.uint64((1 << len(keys).bit_length()) - 1)
        self._sorted = self._heads(self._words)
        self._sorted |= np.arange(len(keys), dtype=np.uint64)
        self._sorted.sort()

    def find(self, keys: Keys) -> IntArray:
        """Place of each key, -1 where it is not there; (n, 32) to (n,)."""
        found = np.full(len(keys), -1, dtype=np.int64)
        wanted = _words(keys)
        heads = self._heads(wanted)
        # In ascending order neighbours lie near each other in memory.
        asked = np.argsort(heads)
        at = np.searchsorted(self._sorted, heads[asked])
        while len(asked):
            there = at < len(self._sorted)
            asked, at = asked[there], at[there]
            both = self._sorted[at]
            there = both & ~self._places == heads[asked]
            asked, at = asked[there], at[there]
            place = (both[there] & self._places).astype(np.int64)
            same = np.logical_and.reduce([self._words[place, k] == wanted[asked, k] for k in range(4)])
            found[asked[same]] = place[same]
            # The same first bits, and another key.
            asked, at = asked[~same], at[~same] + 1
        return found

    def _heads(self, words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        return words[:, 0] & ~self._places


@dataclass(frozen=True)
class Shard:
    """One file of a space, as it was when its bytes were those it was written with.

    Args:
        path: The file.
        dtype: Of its values.
        shape: Of its values, (n, ...).
        offset: Where these begin.
        facts: What tells whether the file has changed since.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    facts: tuple[int, ...]


@lru_cache(maxsize=MAPPED)
def mapped(shard: Shard) -> Array:
    """A shard's values (n, ...), memory-mapped.

    Raises:
        UserError: If its file has gone or changed since it was opened.
    """
    try:
        if _facts(os.stat(shard.path)) == shard.facts or is_sound(shard.path):
            return map_array(shard.path, shard.dtype, shard.shape, shard.offset)
        what = "has changed while it was in use"
    except FileNotFoundError:
        what = "has gone while it was in use"
    raise UserError(what, where=str(shard.path), fix="issue the command again: it is made again")


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
            found = parse_json((folder / ABOUT).read_bytes())
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


def open_shard(path: Path, dtype: np.dtype[Any], *, sound: bool = False) -> tuple[Shard, Keys] | None:
    """A shard and its keys (n, 32), or None where its bytes are not those it was written with.

    Args:
        path: The file.
        dtype: Of its values.
        sound: Whether its bytes are known to be right; they are all read otherwise.

    Raises:
        UserError: If it cannot be read.
    """
    if not sound and not is_sound(path):
        return None
    try:
        with usable(path), suppress(FileNotFoundError):  # Another process found it damaged, or it was pruned.
            with path.open("rb") as file:
                facts = _facts(os.fstat(file.fileno()))
                header, start = read_header(file)
                (first, end), (offset, _) = (header[name]["data_offsets"] for name in ("keys", "values"))
                file.seek(start + first)
                keys = as_keys([file.read(end - first)])
            return Shard(path, dtype.str, tuple(header["values"]["shape"]), start + offset, facts), keys
    except (ValueError, KeyError, TypeError, MemoryError, OverflowError):
        if is_sound(path):
            raise
    return None


def _facts(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def as_keys(digests: Sequence[bytes]) -> Keys:
    """Digests of 32 bytes as a matrix (n, 32)."""
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)


def as_void(keys: Keys) -> npt.NDArray[Any]:
    """Keys (n, 32) as one sortable value each, (n,)."""
    return np.ascontiguousarray(keys).view("V32").reshape(-1)


def _words(keys: Keys) -> npt.NDArray[np.uint64]:
    """Keys (n, 32) as four numbers each, (n, 4)."""
    return np.ascontiguousarray(keys).view(np.uint64)
