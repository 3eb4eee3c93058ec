"""Every image and every prompt is encoded once, ever; decoding runs beside the encoder."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from retune.backbones.base import Backbone
from retune.backbones.precision import threads
from retune.data.dataset import Array, BoolArray, Dataset, FloatArray, IntArray
from retune.data.dicom import NOTE
from retune.errors import BadImage, MissingFiles, UserError
from retune.features.store import Keys, Kind, Space, as_keys, place_of
from retune.progress import Progress, silent
from retune.system import cores, keep_freed_memory

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from retune.backbones.lookup.model import Precomputed

SHARD: Final = 512
BATCH: Final = 64
AT_ONCE: Final = 16
"""Pictures that one thread holds at their full size: of 8 million pixels each, they are many megabytes."""
MOST_THREADS: Final = 32
"""More decode no faster: what the interpreter does between two pictures, one thread does at a time."""
DECODER: Final = "1"
"""Part of every key, as ``at_least`` is; that of files is :data:`retune.data.images.DECODER`."""
REDUCE: Final = 2
"""A large JPEG may be decoded at a reduced scale of at least so many times the input side."""

ImageKind = Literal["images", "tokens", "pixels"]


@dataclass(frozen=True)
class Encoded:
    """What a backbone made of some images, on disk until it is asked for.

    Args:
        good: bool (N,): which of the images asked for could be read.
        images_encoded: How many went through the encoder now, rather than long ago.
        seconds: Time spent decoding and encoding.
        take: Copies values of the readable images, numbered 0 to n-1, out of the store: (k,) to (k, ...).
        contradictions: What was believed of each file decoded now that contradicts itself.
    """

    good: BoolArray
    images_encoded: int
    seconds: float
    take: Callable[[IntArray], Array]
    contradictions: tuple[str, ...] = ()

    @property
    def features(self) -> Array:
        """All values in memory, (n, ...), one row for each image that could be read."""
        return self.take(np.arange(int(self.good.sum()), dtype=np.int64))


def encode_images(
    backbone: Backbone,
    dataset: Dataset,
    rows: IntArray,
    *,
    kind: ImageKind = "images",
    keys: Sequence[bytes | None] | None = None,
    skip_bad_images: bool = False,
    progress: Progress = silent,
) -> Encoded:
    """Features of some images of a data set, encoding only what never was.

    Args:
        backbone: The encoder; it is not even loaded where nothing is to be encoded.
        dataset: Where the images are.
        rows: Which images, shape (N,).
        kind: ``images`` for one vector each, ``tokens`` for one per patch, ``pixels`` for the
            preprocessed pictures themselves.
        keys: Digests of their content, where already known.
        skip_bad_images: Leave out images that are missing or cannot be decoded.
        progress: Told how many images are done.

    Raises:
        MissingFiles: If images are missing.
        BadImage: If one cannot be decoded.
        UserError: If the backbone gives NaN.
    """
    if backbone.precomputed:
        return _looked_up(backbone, dataset, rows, skip_bad_images)
    start = time.perf_counter()
    found = dataset.images.keys(rows) if keys is None else keys
    if not skip_bad_images:
        dataset.require_images(rows, found)
    good = np.array([key is not None for key in found], dtype=bool)
    wanted = as_keys([key for key in found if key is not None])
    space = _space(backbone, kind)
    encoded, contradictions = 0, list[str]()
    places = space.find(wanted)
    if (places < 0).any():
        # One process encodes at a time; the next finds the work done.
        with space.lock():
            space.refresh()
            todo = space.first_missing(wanted)
            if len(todo):
                job = _Job(backbone, dataset, rows[good][todo], wanted[todo], space, skip_bad_images)
                encoded = job.run(progress)
                contradictions = sorted(job.contradictions)
                space.refresh()
        places = space.find(wanted)
    good[good] = places >= 0
    places = places[places >= 0]
    seconds = time.perf_counter() - start
    return Encoded(good, encoded, seconds, lambda k: space.gather(places[k]), tuple(contradictions))


def encode_texts(backbone: Backbone, texts: Sequence[str]) -> FloatArray:
    """Embeddings of texts, float32 (P, d), encoding only what never was.

    Args:
        backbone: The encoder; it is not even loaded where nothing is to be encoded.
        texts: P texts.
    """
    if backbone.precomputed:
        return np.asarray(backbone.encode_texts(texts).numpy(), dtype=np.float32)
    keys = as_keys([hashlib.sha256(text.encode()).digest() for text in texts])
    space = _space(backbone, "texts")
    if (space.find(keys) < 0).any():
        with space.lock():
            space.refresh()
            todo = space.first_missing(keys)
            if len(todo):
                with threads(1):
                    vectors = backbone.encode_texts([texts[i] for i in todo]).numpy()
                space.add(keys[todo], _checked(vectors, "texts", backbone))
                space.refresh()
    return space.gather(space.find(keys))


def held(backbone: Backbone, kind: ImageKind, keys: Sequence[bytes]) -> int:
    """How many of some images the store holds already; nothing is made or written for it.

    Args:
        backbone: The encoder.
        kind: Of the values.
        keys: Digests of the images' content.
    """
    if backbone.precomputed or not place_of(_about(backbone, kind), kind).is_dir():
        return 0
    return int((_space(backbone, kind).find(as_keys(keys)) >= 0).sum())


def _space(backbone: Backbone, kind: Kind) -> Space:
    return Space(_about(backbone, kind), kind, name=backbone.name)


def _about(backbone: Backbone, kind: Kind) -> dict[str, Any]:
    about: dict[str, Any] = {"backbone": backbone.fingerprint}
    if kind != "pixels":
        # The last bits differ from one kind of processor to another.
        about |= {"precision": backbone.precision, "device": backbone.torch_device.type}
    if kind != "texts":
        about |= {"decoder": DECODER, "at_least": _at_least(backbone)}
    return about


def _at_least(backbone: Backbone) -> int:
    return REDUCE * backbone.card.image_size


def _looked_up(backbone: Backbone, dataset: Dataset, rows: IntArray, skip_missing: bool) -> Encoded:
    source: Precomputed = backbone  # type: ignore[assignment]
    places = source.rows_of(dataset.image_id[rows])
    good = places >= 0
    if not good.any():
        raise MissingFiles(
            f"has no features of any of the {len(rows):,} images, such as {dataset.image_id[rows][0]}",
            where=backbone.name,
            fix="name the file of this data set",
        )
    if not good.all() and not skip_missing:
        missing = dataset.image_id[rows][~good]
        raise MissingFiles(
            f"has no features of {len(missing):,} of {len(rows):,} images: {', '.join(map(str, missing[:3]))}"
            + (", ..." if len(missing) > 3 else ""),
            where=backbone.name,
            fix="make it again with 'retune embed', or go on without them with --skip-bad-images",
        )
    places = places[good]
    return Encoded(good, 0, 0.0, lambda k: source.gather(places[k]))


@dataclass
class _Job:
    """Images to encode, batch by batch, into shards."""

    backbone: Backbone
    dataset: Dataset
    rows: IntArray
    keys: Keys
    space: Space
    skip_bad_images: bool
    contradictions: list[str] = field(default_factory=list)
    _cold: bool = True

    def run(self, progress: Progress) -> int:
        """Encode everything; returns how many images could be read."""
        stage = "encoding images" if self.space.kind == "images" else f"preparing {self.space.kind}"
        done = read = 0
        progress(stage, 0, len(self.rows))
        keep_freed_memory()
        pending: list[tuple[Keys, Array]] = []
        for index, pictures, values in self._encoded():
            bad = next((p for p in pictures if isinstance(p, BadImage)), None)
            if bad is not None and not self.skip_bad_images:
                self._flush(pending)
                hint = "mend it, or go on without it with --skip-bad-images"
                raise BadImage(bad.what, where=bad.where, fix=hint)
            good = np.array([not isinstance(p, BadImage) for p in pictures], dtype=bool)
            if len(values):
                pending.append((self.keys[index][good], values))
            done, read = done + len(pictures), read + len(values)
            if sum(len(k) for k, _ in pending) >= SHARD or done == len(self.rows):
                self._flush(pending)
            progress(stage, done, len(self.rows))
        return read

    def _encoded(self) -> Iterator[tuple[slice, list[torch.Tensor | BadImage], Array]]:
        """Batches in order with the values of their readable pictures, as many at a time as there are cores."""
        on_cpu = self.backbone.torch_device.type == "cpu"
        at_once = cores() if self.backbone.concurrent and on_cpu else 1
        waiting: deque[tuple[slice, list[torch.Tensor | BadImage], Future[Array]]] = deque()
        # torch's number of threads is one thread's own, and the one that later threads start with.
        with threads(1), ThreadPoolExecutor(at_once, initializer=_one_thread_here) as pool:
            for index, pictures in self._decoded():
                waiting.append((index, pictures, pool.submit(self._encode, pictures)))
                # The first batch has the weights read; alone, so that they are read once.
                if self._cold or len(waiting) > at_once:
                    self._cold = False
                    index, pictures, values = waiting.popleft()
                    yield index, pictures, values.result()
            for index, pictures, values in waiting:
                yield index, pictures, values.result()

    def _encode(self, pictures: list[torch.Tensor | BadImage]) -> Array:
        import torch

        pixels = [p for p in pictures if not isinstance(p, BadImage)]
        if not pixels:
            return np.empty(0)
        if self.space.kind == "pixels":
            return torch.stack(pixels).numpy()
        # Always a full batch: a sample's bits must not depend on how many came with it.
        batch = torch.stack(pixels + [torch.zeros_like(pixels[0])] * (BATCH - len(pixels)))
        encode = self.backbone.encode_tokens if self.space.kind == "tokens" else self.backbone.encode_images
        return _checked(encode(batch)[: len(pixels)].numpy(), self.space.kind, self.backbone)

    def _flush(self, pending: list[tuple[Keys, Array]]) -> None:
        if pending:
            self.space.add(np.concatenate([k for k, _ in pending]), np.concatenate([v for _, v in pending]))
            pending.clear()

    def _decoded(self) -> Iterator[tuple[slice, list[torch.Tensor | BadImage]]]:
        """Batches of preprocessed pictures in order, decoded beside the encoder."""
        at_least = _at_least(self.backbone)
        images = self.dataset.images

        def prepared(row: int, picture: Image.Image | BadImage) -> torch.Tensor | BadImage:
            if isinstance(picture, BadImage):
                return picture
            if NOTE in picture.info:
                self.contradictions.append(f"{images.describe(row)}: {picture.info[NOTE]}")
            return self.backbone.preprocess(picture)

        def work(rows: IntArray) -> list[torch.Tensor | BadImage]:
            parts = (rows[i : i + AT_ONCE] for i in range(0, len(rows), AT_ONCE))
            return [p for part in parts for p in map(prepared, part.tolist(), images.load(part, at_least))]

        # Decoders, resizing and the phantom's arithmetic all let other threads run: processes gain nothing.
        workers = min(MOST_THREADS, max(2, cores()))
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[tuple[slice, Future[list[Any]]]] = deque()
            for index in (slice(i, i + BATCH) for i in range(0, len(self.rows), BATCH)):
                waiting.append((index, pool.submit(work, self.rows[index])))
                if len(waiting) > 2 * workers:
                    head, future = waiting.popleft()
                    yield head, future.result()
            for head, future in waiting:
                yield head, future.result()


def _one_thread_here() -> None:
    import torch

    torch.set_num_threads(1)


def _checked(values: Array, kind: Kind, backbone: Backbone) -> Array:
    """Values fit to be kept: of the dimension that the card says, and finite."""
    card = backbone.card
    wanted = {"images": card.dim, "texts": card.text_dim or card.dim, "tokens": card.token_dim}.get(kind)
    if wanted is not None and values.shape[-1] != wanted:
        raise UserError(
            f"gives {values.shape[-1]} dimensions, its card says {wanted}", where=f"backbone {backbone.name}"
        )
    if kind == "tokens":
        values = values.astype(np.float16)
    if not np.isfinite(values).all():
        raise UserError(
            "gives features that are not finite", where=f"backbone {backbone.name}", fix="check its weights"
        )
    return values
