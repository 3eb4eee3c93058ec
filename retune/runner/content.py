"""What pictures are, byte for byte, whatever their files are called; and of whom they are, wherever they come from."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from retune.data.dataset import Dataset, IntArray
from retune.progress import Progress
from retune.results.image_digests import WIDTH, Digests, digests

BLOCK: Final = 512
"""Images whose digests are looked up at a time: as many as a second reads, so that progress is seen."""
PERSON: Final = "person"
"""A column with the digest of each image's patient, for images whose data set's own names are gone."""


def content_of(dataset: Dataset, rows: IntArray, progress: Progress | None = None) -> list[bytes | None]:
    """Digests of images' content, told block by block: many gigabytes may have to be read."""
    found: list[bytes | None] = []
    for start in range(0, len(rows), BLOCK):
        found += dataset.images.keys(rows[start : start + BLOCK])
        if progress:
            progress("reading images", len(found), len(rows))
    return found


def people_of(dataset: Dataset, rows: IntArray) -> Digests:
    """Digests of the patients of images, each with the name of the data set that calls them so; uint8 (N, WIDTH)."""
    told = dataset.columns.get(PERSON)
    if told is not None:
        found = bytes.fromhex("".join(told[rows].tolist()))
        return np.frombuffer(found, np.uint8).reshape(len(rows), WIDTH).copy()
    names = dataset.patient_id[rows].astype(str)
    if "dataset" not in dataset.columns:  # Of several data sets, patients are named by theirs already.
        names = np.char.add(f"{dataset.name}/", names)
    return digests(names.tolist())


def with_people(dataset: Dataset, people: Digests | None = None) -> Dataset:
    """A data set that keeps whom its images are of, whatever it becomes a part of.

    Args:
        dataset: N images.
        people: Of whom they are, uint8 (N, WIDTH), if its own names do not tell.
    """
    rows = np.arange(len(dataset), dtype=np.int64)
    found = people_of(dataset, rows) if people is None else people
    column = np.array([person.tobytes().hex() for person in found], dtype=f"<U{2 * WIDTH}")
    return replace(dataset, columns={**dataset.columns, PERSON: column})
