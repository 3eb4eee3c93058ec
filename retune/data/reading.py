"""What a reader gives, of whoever's making: what its code raises is told in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from retune.data.dataset import BoolArray, Dataset, ImageSource, IntArray
from retune.data.readers.base import Reader
from retune.data.regions import Regions
from retune.errors import BadImage, PluginError
from retune.plugins import blamed

T = TypeVar("T")


def read(reader: Reader, root: Path | None) -> Dataset:
    """Read a table.

    Args:
        reader: Of what.
        root: The folder of its files.

    Raises:
        UserError: If files are missing or wrong, or a plugin's code is.
    """
    with blamed(reader, "data set", "read"):
        table = reader.read(root)
    if not isinstance(table, Dataset):
        raise PluginError(f"read gave {type(table).__name__}, not a Dataset", where=f"data set {reader.name}")
    own: dict[str, Any] = {}
    if not _ours(table.images):
        own["images"] = _Images(reader, table.images)
    if table.regions is not None and not _ours(table.regions):
        own["regions"] = _Regions(reader, table.regions)
    return replace(table, **own) if own else table


def _ours(part: object) -> bool:
    return type(part).__module__.startswith("retune.")


@dataclass(frozen=True)
class _Images:
    """Pictures of a plugin's own source; an ``ImageSource``."""

    reader: Reader
    source: ImageSource

    def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image | BadImage]:
        return self._ask("load", lambda: self.source.load(rows, at_least))

    def keys(self, rows: IntArray) -> list[bytes | None]:
        return self._ask("keys", lambda: self.source.keys(rows))

    def exists(self, rows: IntArray) -> BoolArray:
        return self._ask("exists", lambda: self.source.exists(rows))

    def describe(self, row: int) -> str:
        return self._ask("describe", lambda: self.source.describe(row))

    def _ask(self, what: str, ask: Callable[[], T]) -> T:
        with blamed(self.reader, "data set", f"{what} of its images"):
            return ask()


@dataclass(frozen=True)
class _Regions:
    """Outlines of a plugin's own; ``Regions``."""

    reader: Reader
    source: Regions

    @property
    def findings(self) -> tuple[str, ...]:
        return self.source.findings

    def known(self, rows: IntArray) -> BoolArray:
        return self._ask("known", lambda: self.source.known(rows))

    def masks(self, rows: IntArray) -> list[BoolArray]:
        found = [np.asarray(mask) for mask in self._ask("masks", lambda: self.source.masks(rows))]
        for mask in found:
            if mask.dtype != np.bool_ or mask.ndim != 3 or len(mask) != len(self.findings):
                raise PluginError(
                    f"masks gave {mask.dtype} of shape {mask.shape}, not bool ({len(self.findings)}, H, W)",
                    where=f"data set {self.reader.name}",
                )
        return found

    def keys(self, rows: IntArray) -> list[bytes]:
        return self._ask("keys", lambda: self.source.keys(rows))

    def _ask(self, what: str, ask: Callable[[], T]) -> T:
        with blamed(self.reader, "data set", f"{what} of its outlines"):
            return ask()
