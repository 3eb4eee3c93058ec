"""What a reader gives, of whoever's making: what its code raises is told in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from PIL import Image

from retune.data.dataset import BoolArray, Dataset, ImageSource, IntArray
from retune.data.readers.base import Reader
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
    ours = type(table.images).__module__.startswith("retune.")
    return table if ours else replace(table, images=_Images(reader, table.images))


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
