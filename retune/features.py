"""The feature store: every image and every prompt is encoded once, ever.

A space holds the embeddings that one backbone fingerprint makes in one precision. It is a folder of
shards, each a safetensors file of keys (digests of content) and features whose name is the SHA-256
of its bytes: a killed process loses at most the shard it was making, and damage is noticed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from safetensors.numpy import save

from retune.backbones.base import Backbone
from retune.cache import cache_dir
from retune.data.dataset import Dataset, FloatArray, IntArray
from retune.errors import BadImage, UserError
from retune.files import make_folder, write_whole

if TYPE_CHECKING:
    import torch

SHARD: Final = 512
BATCH: Final = 64
WORKERS: Final = 2
Progress = Callable[[int, int], None]
Keys = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Encoded:
    """Features of some images.

    Args:
        features: float32 (n, d), one row for each image that could be read.
        good: bool (N,): which of the images asked for could be read.
        images_encoded: How many went through the encoder now, rather than long ago.
        seconds: Time spent decoding and encoding.
    """

    features: FloatArray
    good: npt.NDArray[np.bool_]
    images_encoded: int
    seconds: float


class Space:
    """The embeddings of one backbone, images or texts, on disk.

    Args:
        backbone: Whose embeddings.
        kind: ``"images"`` or ``"texts"``.
        precision: The arithmetic they are made in.
    """

    def __init__(self, backbone: Backbone, kind: Literal["images", "texts"], precision: str = "fp32") -> None:
        about = {"backbone": backbone.fingerprint, "kind": kind, "precision": precision}
        text = json.dumps(about, sort_keys=True)
        self.folder = cache_dir() / "features" / hashlib.sha256(text.encode()).hexdigest()[:32]
        self.dim = backbone.card.dim
        self.lock = FileLock(self.folder / ".lock")
        if not (self.folder / "about.json").exists():
            make_folder(self.folder)
            about = {**about, "name": backbone.name}
            write_whole(self.folder / "about.json", json.dumps(about, sort_keys=True).encode())
        self._opened: dict[str, tuple[Keys, FloatArray]] = {}
        self._known = np.empty(0, dtype="V32")
        self._row = np.empty(0, dtype=np.int64)
        self.refresh()

    def refresh(self) -> None:
        """Take in shards that have appeared; remove damaged ones, so that they are made again."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name in self._opened:
                continue
            shard = _open_shard(path, self.dim)
            if shard is None:
                path.unlink(missing_ok=True)
            else:
                self._opened[path.name] = shard
        if self._opened:
            keys = _void(np.concatenate([keys for keys, _ in self._opened.values()]))
            self._known, self._row = np.unique(keys, return_index=True)

    def find(self, keys: Keys) -> IntArray:
        """Row of each key in this space, -1 where it is not there; (n, 32) to (n,)."""
        if not len(self._known):
            return np.full(len(keys), -1, dtype=np.int64)
        wanted = _void(keys)
        place = np.minimum(np.searchsorted(self._known, wanted), len(self._known) - 1)
        return np.where(self._known[place] == wanted, self._row[place], -1)

    def gather(self, rows: IntArray) -> FloatArray:
        """Copy rows out of the memory-mapped shards; (n,) to (n, d)."""
        out = np.empty((len(rows), self.dim), dtype=np.float32)
        start = 0
        for keys, features in self._opened.values():
            here = (rows >= start) & (rows < start + len(keys))
            out[here] = features[rows[here] - start]
            start += len(keys)
        return out

    def add(self, keys: Keys, features: FloatArray) -> None:
        """Write one shard."""
        data = save({"features": np.ascontiguousarray(features, dtype=np.float32), "keys": keys})
        write_whole(self.folder / f"{hashlib.sha256(data).hexdigest()}.safetensors", data)


def encode_images(
    backbone: Backbone,
    dataset: Dataset,
    rows: IntArray,
    *,
    keys: Sequence[bytes | None] | None = None,
    skip_bad_images: bool = False,
    progress: Progress | None = None,
) -> Encoded:
    """Features of some images of a data set, encoding only what never was.

    Args:
        backbone: The encoder; it is not even loaded where nothing is to be encoded.
        dataset: Where the images are.
        rows: Which images, shape (N,).
        keys: Digests of their content, where already known.
        skip_bad_images: Leave out images that are missing or cannot be decoded.
        progress: Called with images done and images to do.

    Raises:
        MissingFiles: If images are missing.
        BadImage: If one cannot be decoded.
        UserError: If the backbone gives NaN.
    """
    start = time.perf_counter()
    found = dataset.images.keys(rows) if keys is None else keys
    if not skip_bad_images:
        dataset.require_images(rows, found)
    good = np.array([key is not None for key in found], dtype=bool)
    wanted = _matrix([key for key in found if key is not None])
    space = Space(backbone, "images")
    encoded = 0
    if (space.find(wanted) < 0).any():
        # One process encodes at a time; the next finds the work done.
        with space.lock:
            space.refresh()
            todo = _first_missing(space, wanted)
            if len(todo):
                encoded = _encode(
                    backbone, dataset, rows[good][todo], wanted[todo], space, skip_bad_images, progress
                )
                space.refresh()
    places = space.find(wanted)
    good[good] = places >= 0
    return Encoded(space.gather(places[places >= 0]), good, encoded, time.perf_counter() - start)


def encode_texts(backbone: Backbone, texts: Sequence[str]) -> FloatArray:
    """Embeddings of texts, float32 (P, d), encoding only what never was.

    Args:
        backbone: The encoder; it is not even loaded where nothing is to be encoded.
        texts: P texts.
    """
    keys = _matrix([hashlib.sha256(text.encode()).digest() for text in texts])
    space = Space(backbone, "texts")
    if (space.find(keys) < 0).any():
        with space.lock:
            space.refresh()
            todo = _first_missing(space, keys)
            if len(todo):
                features = backbone.encode_texts([texts[i] for i in todo]).numpy()
                space.add(keys[todo], _finite(features, backbone))
                space.refresh()
    return space.gather(space.find(keys))


def _encode(
    backbone: Backbone,
    dataset: Dataset,
    rows: IntArray,
    keys: Keys,
    space: Space,
    skip_bad_images: bool,
    progress: Progress | None,
) -> int:
    """Encode rows shard by shard; returns how many could be read."""
    import torch

    done = bad = 0
    pending: list[tuple[Keys, FloatArray]] = []

    def flush() -> None:
        if pending:
            space.add(np.concatenate([k for k, _ in pending]), np.concatenate([f for _, f in pending]))
            pending.clear()

    for index, pictures in _decoded(backbone, dataset, rows):
        read = np.array([not isinstance(picture, BadImage) for picture in pictures], dtype=bool)
        for picture in pictures:
            if isinstance(picture, BadImage) and not skip_bad_images:
                flush()
                raise BadImage(
                    picture.what,
                    where=picture.where,
                    fix="mend it, or go on without it with --skip-bad-images",
                )
        pixels = [picture for picture in pictures if not isinstance(picture, BadImage)]
        bad += len(pictures) - len(pixels)
        if pixels:
            # Always a full batch: a sample's bits must not depend on how many came with it.
            batch = torch.stack(pixels + [torch.zeros_like(pixels[0])] * (BATCH - len(pixels)))
            features = backbone.encode_images(batch)[: len(pixels)].numpy()
            pending.append((keys[index][read], _finite(features, backbone)))
        done += len(pictures)
        if sum(len(k) for k, _ in pending) >= SHARD or done == len(rows):
            flush()
        if progress:
            progress(done, len(rows))
    return done - bad


def _decoded(
    backbone: Backbone, dataset: Dataset, rows: IntArray
) -> Iterator[tuple[slice, list[torch.Tensor | BadImage]]]:
    """Batches of preprocessed pictures in order, decoded beside the encoder."""

    def work(index: slice) -> list[torch.Tensor | BadImage]:
        pictures = dataset.images.load(rows[index])
        return [p if isinstance(p, BadImage) else backbone.preprocess(p) for p in pictures]

    slices = [slice(i, i + BATCH) for i in range(0, len(rows), BATCH)]
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: deque[tuple[slice, Future[list[Any]]]] = deque()
        for index in slices:
            waiting.append((index, pool.submit(work, index)))
            if len(waiting) > 2 * WORKERS:
                head, future = waiting.popleft()
                yield head, future.result()
        for head, future in waiting:
            yield head, future.result()


def _first_missing(space: Space, keys: Keys) -> IntArray:
    """Positions of the first of each distinct key that the space lacks, ascending."""
    missing = np.flatnonzero(space.find(keys) < 0)
    _, first = np.unique(_void(keys[missing]), return_index=True)
    return np.sort(missing[first])


def _open_shard(path: Path, dim: int) -> tuple[Keys, FloatArray] | None:
    """Keys and memory-mapped features of a shard, or None where it is damaged."""
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != path.stem:
            return None
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    arrays = {}
    for name, dtype in (("keys", np.uint8), ("features", np.float32)):
        entry = header[name]
        offset = 8 + length + entry["data_offsets"][0]
        arrays[name] = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=tuple(entry["shape"]))
    if arrays["features"].shape[1] != dim:
        return None
    return np.array(arrays["keys"]), arrays["features"]


def _finite(features: npt.NDArray[Any], backbone: Backbone) -> FloatArray:
    if features.shape[1] != backbone.card.dim:
        raise UserError(
            f"gives {features.shape[1]} dimensions, its card says {backbone.card.dim}",
            where=f"backbone {backbone.name}",
        )
    if not np.isfinite(features).all():
        raise UserError(
            "gives features that are not finite", where=f"backbone {backbone.name}", fix="check its weights"
        )
    return np.asarray(features, dtype=np.float32)


def _matrix(digests: Sequence[bytes]) -> Keys:
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)


def _void(keys: Keys) -> npt.NDArray[Any]:
    return np.ascontiguousarray(keys).view("V32").reshape(-1)
