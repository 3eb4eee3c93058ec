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
from retune.plugins import blamed, is_ours

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
    if not is_ours(table.images):
        own["images"] = _Images(reader, table.images)
    if table.regions is not None and not is_ours(table.regions):
        own["regions"] = _Regions(reader, table.regions)
    return replace(table, **own) if own else table


@dataclass(frozen=True)
class _Asked:
    """Something of a plugin's reader that is asked later."""

    reader: Reader

    def ask(self, what: str, answer: Callable[[], T]) -> T:
        with blamed(self.reader, "data set", what):
            return answer()


@dataclass(frozen=True)
class _Images(_Asked):
    """Pictures of a plugin's own source; an ``ImageSource``."""

    source: ImageSource

    def load(self, rows: IntArray, at_least: int | None = None) -> list[Image.Image | BadImage]:
        return self.ask("load of its images", lambda: self.source.load(rows, at_least))

    def keys(self, rows: IntArray) -> list[bytes | None]:
        return self.ask("keys of its images", lambda: self.source.keys(rows))

    def exists(self, rows: IntArray) -> BoolArray:
        return self.ask("exists of its images", lambda: self.source.exists(rows))

    def describe(self, row: int) -> str:
        return self.ask("describe of its images", lambda: self.source.describe(row))


@dataclass(frozen=True)
class _Regions(_Asked):
    """Outlines of a plugin's own; ``Regions``."""

    source: Regions

    @property
    def findings(self) -> tuple[str, ...]:
        return self.source.findings

    def known(self, rows: IntArray) -> BoolArray:
        return self.ask("known of its outlines", lambda: self.source.known(rows))

    def masks(self, rows: IntArray) -> list[BoolArray]:
        given = self.ask("masks of its outlines", lambda: self.source.masks(rows))
        found = [np.asarray(mask) for mask in given]
        for mask in found:
            if mask.dtype != np.bool_ or mask.ndim != 3 or len(mask) != len(self.findings):
                raise PluginError(
                    f"masks gave {mask.dtype} of shape {mask.shape}, not bool ({len(self.findings)}, H, W)",
                    where=f"data set {self.reader.name}",
                )
        return found

    def keys(self, rows: IntArray) -> list[bytes]:
        return self.ask("keys of its outlines", lambda: self.source.keys(rows))
