"""What pictures are, byte for byte, whatever their files are called."""

from __future__ import annotations

from typing import Final

from retune.data.dataset import Dataset, IntArray
from retune.progress import Progress

BLOCK: Final = 512
"""Images whose digests are looked up at a time: as many as a second reads, so that progress is seen."""


def content_of(dataset: Dataset, rows: IntArray, progress: Progress | None = None) -> list[bytes | None]:
    """Digests of images' content, told block by block: many gigabytes may have to be read."""
    found: list[bytes | None] = []
    for start in range(0, len(rows), BLOCK):
        found += dataset.images.keys(rows[start : start + BLOCK])
        if progress:
            progress("reading images", len(found), len(rows))
    return found
