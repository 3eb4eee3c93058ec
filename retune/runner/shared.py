"""What the runs of one process share, so that the second run of a kind costs little more than its learning."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
from PIL import Image

from retune.backbones.base import Backbone
from retune.backbones.load import load_backbone
from retune.backbones.precision import Precision
from retune.data.dataset import BoolArray, Dataset, ImageSource, IntArray
from retune.data.source import DataSource
from retune.errors import BadImage
from retune.prompts import PromptBank
from retune.prompts import load as load_bank

T = TypeVar("T")

MOST: Final = 8
"""How many of a kind are kept: those used last."""


class Shared:
    """Keeps data sets with their digests, prompt banks, backbones and cut streams; nothing on it changes.

    Args:
        backbones: Whether backbones are kept, too. A method of unknown make may change their weights.
    """

    def __init__(self, *, backbones: bool = True) -> None:
        self.keeps_backbones = backbones
        self._kept: dict[str, OrderedDict[Hashable, Any]] = {}

    def kept(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for a key, made now if it is not there any more."""
        shared = self._kept.setdefault(kind, OrderedDict())
        if key not in shared:
            shared[key] = make()
            if len(shared) > MOST:
                shared.popitem(last=False)
        shared.move_to_end(key)
        found: T = shared[key]
        return found

    def backbone(self, name: str, *, device: str = "auto", precision: Precision = "fp32") -> Backbone:
        """A backbone with whatever of it has been loaded; see :func:`retune.backbones.load.load_backbone`."""

        def make() -> Backbone:
            return load_backbone(name, device=device, precision=precision)

        return self.kept("backbone", (name, device, precision), make) if self.keeps_backbones else make()

    def bank(self, name: str) -> PromptBank:
        """A prompt bank."""
        return self.kept("bank", name, lambda: load_bank(name))

    def dataset(self, source: DataSource) -> Dataset:
        """A data set's table, read once; its arrays cannot be written to."""
        return self.kept("dataset", key_of(source), lambda: _frozen(source.read()))

    def clear(self) -> None:
        """Forget everything: files may have changed."""
        self._kept.clear()


def key_of(source: DataSource) -> str:
    """Whatever decides what a source reads."""
    makers = [(type(reader).__module__, type(reader).__qualname__) for reader in source.readers]
    return repr((makers, sorted(source.settings.items()), sorted(source.roots.items())))


@dataclass(frozen=True, eq=False)
class Remembered:
    """An image source that looks at a picture's content once.

    Args:
        source: The pictures.
        digests: Of every row so far, (N, 32) as bytes; missing pictures are looked for again.
        known: Which rows those are, bool (N,).
    """

    source: ImageSource
    digests: np.ndarray[Any, np.dtype[np.uint8]]
    known: BoolArray

    @classmethod
    def of(cls, source: ImageSource, n: int) -> Remembered:
        """Remember n pictures."""
        return cls(source, np.zeros((n, 32), np.uint8), np.zeros(n, dtype=bool))

    def keys(self, rows: IntArray) -> list[bytes | None]:
        """Digest of each row's image content."""
        fresh = np.asarray(rows)[~self.known[rows]]
        found = self.source.keys(fresh) if len(fresh) else []
        there = np.array([key is not None for key in found], dtype=bool)
        if there.any():
            joined = b"".join(key for key in found if key is not None)
            self.digests[fresh[there]] = np.frombuffer(joined, np.uint8).reshape(-1, 32)
            self.known[fresh[there]] = True
        every = self.digests[rows].tobytes()
        known = self.known[rows].tolist()
        return [every[32 * i : 32 * i + 32] if there else None for i, there in enumerate(known)]

    def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image | BadImage]:
        """The pictures of some rows."""
        return self.source.load(rows, at_least)

    def exists(self, rows: IntArray) -> BoolArray:
        """Which rows' pictures are there."""
        return self.source.exists(rows)

    def describe(self, row: int) -> str:
        """A name for the row's picture."""
        return self.source.describe(row)


def _frozen(dataset: Dataset) -> Dataset:
    columns: Sequence[Any] = (*dataset.columns.values(), dataset.image_id, dataset.patient_id, dataset.split)
    for values in (*columns, dataset.targets):
        values.flags.writeable = False
    return replace(dataset, images=Remembered.of(dataset.images, len(dataset)))
