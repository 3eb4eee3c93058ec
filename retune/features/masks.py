"""Masks of findings as the backbone sees the picture: made once, and kept as packed bits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image

from retune.backbones.base import Backbone
from retune.data.dataset import BoolArray, Dataset, IntArray
from retune.data.regions import Regions
from retune.features.store import Space, as_keys
from retune.progress import Progress, silent
from retune.system import cores

SHARD: Final = 512
AT_ONCE: Final = 16
"""Masks at the size of their pictures that one thread holds."""
COUNTS: Final = 16
"""Bytes behind a mask's bits: how many pixels the finding has in the picture, and how many the crop cuts off."""


@dataclass(frozen=True)
class MaskRows:
    """Masks of some rows of a data set, in the feature store.

    Args:
        space: Where they are.
        places: Of the n rows.
        size: Side in pixels.
    """

    space: Space
    places: IntArray
    size: int

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: IntArray) -> BoolArray:
        packed = self.space.gather(self.places[index])[..., :-COUNTS]
        bits = np.unpackbits(packed, axis=-1, count=self.size**2)
        return bits.reshape(*bits.shape[:-1], self.size, self.size).astype(bool)

    def take(self, index: IntArray) -> MaskRows:
        """Those of some of the rows."""
        return MaskRows(self.space, self.places[index], self.size)

    def areas(self) -> IntArray:
        """Pixels of each finding in each picture, and how many of them the crop cuts off: (n, K, 2)."""
        counts = np.ascontiguousarray(self.space.gather(self.places)[..., -COUNTS:])
        return counts.view(np.int64)

    def present(self) -> BoolArray:
        """Which findings are on which pictures as the backbone sees them, bool (n, K)."""
        return np.asarray(self.space.gather(self.places)[..., :-COUNTS].any(axis=-1))


def encode_masks(
    backbone: Backbone, dataset: Dataset, rows: IntArray, size: int, progress: Progress = silent
) -> MaskRows:
    """Masks of some images of a data set that has regions, making only what was never made.

    A mask goes the picture's way: through the backbone's preprocessing as a black and white picture, so that both are
    resized and cropped alike; then to ``size`` pixels, where what is half covered counts.

    Args:
        backbone: Whose preprocessing; the model is not loaded.
        dataset: Must have ``regions``.
        rows: Which images, (N,).
        size: Side in pixels.
        progress: Told how many images are done.

    Raises:
        BadTable: If an outline is none, or does not lie in its picture.
    """
    regions = dataset.regions
    assert regions is not None
    about = {"backbone": backbone.fingerprint, "size": size, "findings": list(regions.findings)}
    space = Space(about, "masks", name=backbone.name)
    wanted = as_keys(regions.keys(rows))
    if (space.find(wanted) < 0).any():
        with space.lock():
            space.refresh()
            todo = space.first_missing(wanted)
            for start in range(0, len(todo), SHARD):
                part = todo[start : start + SHARD]
                progress("preparing masks", start, len(todo))
                space.add(wanted[part], _made(backbone, regions, rows[part], size))
            progress("preparing masks", len(todo), len(todo))
            space.refresh()
    return MaskRows(space, space.find(wanted), size)


def _made(backbone: Backbone, regions: Regions, rows: IntArray, size: int) -> np.ndarray:
    parts = [rows[i : i + AT_ONCE] for i in range(0, len(rows), AT_ONCE)]

    def work(part: IntArray) -> np.ndarray:
        return np.stack([_packed(backbone, masks, size) for masks in regions.masks(part)])

    with ThreadPoolExecutor(cores()) as pool:
        return np.concatenate(list(pool.map(work, parts)))


def _packed(backbone: Backbone, masks: BoolArray, size: int) -> np.ndarray:
    """Bits and counts of K masks (K, H, W), uint8 (K, bytes)."""
    bits = np.zeros((len(masks), size, size), dtype=bool)
    areas = np.zeros((len(masks), 2), dtype=np.int64)
    top, bottom, left, right = _window(backbone, masks.shape[1:])
    for k in np.flatnonzero(masks.any(axis=(1, 2))):
        picture = backbone.preprocess(Image.fromarray(masks[k].astype(np.uint8) * 255))
        seen = Image.fromarray(picture.numpy()).resize((size, size), Image.Resampling.BOX)
        bits[k] = np.asarray(seen) >= 128
        inside = masks[k, top:bottom, left:right].sum()
        areas[k] = masks[k].sum(), masks[k].sum() - inside
    packed = np.packbits(bits.reshape(len(masks), -1), axis=-1)
    return np.concatenate([packed, areas.view(np.uint8).reshape(len(masks), -1)], axis=-1)


@lru_cache(maxsize=64)
def _window(backbone: Backbone, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Rows and columns of a picture that preprocessing leaves: first and past the last, of both."""
    found: list[int] = []
    for axis in (0, 1):
        n = shape[axis]
        ramp = np.linspace(0, 255, n)
        values = np.broadcast_to(ramp[:, None] if axis == 0 else ramp, shape)
        seen = backbone.preprocess(Image.fromarray(np.round(values).astype(np.uint8))).numpy()
        low, high = int(seen.min()), int(seen.max())
        # A first or last pixel that is the mean of several is no crop.
        blur = 255 / len(seen) + 1
        found += [
            round(low / 255 * n) if low > blur else 0,
            round(high / 255 * n) if high < 255 - blur else n,
        ]
    top, bottom, left, right = found
    return top, bottom, left, right
