"""Whether a copy of a data set is complete and readable, asked before a long run rather than in it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from retune.data.dataset import SPLITS, Dataset, IntArray
from retune.data.dicom import NOTE
from retune.data.readers.base import INTERPRETATION, Published
from retune.data.source import DataSource
from retune.errors import BadImage, BadSetting
from retune.plugins import registry
from retune.progress import Progress
from retune.settings import settings_of

NAMED: Final = 5
"""How many missing and damaged images are told by name."""
STATS: Final = 2000
BATCH: Final = 16
BORDERS: Final = 48
"""How many pictures of each kind are looked at to compare their borders."""
GREY: Final = 24
"""Borders so near to the middle of 255 say nothing of black and white."""
WORKERS: Final = 2


@dataclass(frozen=True)
class LabelCount:
    """How often a label is present, absent and unknown, and present as published, where that is known."""

    label: str
    positive: int
    negative: int
    unknown: int
    published: int | None


@dataclass(frozen=True)
class SplitCount:
    """Images and patients of a split."""

    split: str
    images: int
    patients: int


@dataclass(frozen=True)
class CopyCheck:
    """What a copy of a data set holds.

    Args:
        dataset: Name of the data set.
        settings: Settings it was read with.
        synthetic: Whether the pictures are computed.
        images: Images in the table, after every filter.
        images_published: Images in the complete data set, before any filter; None where not known.
        patients: Patients of ``images``.
        patients_published: Patients in the complete data set; None where not known.
        splits: Counts per split.
        labels: Counts per label.
        dropped: How many images each filter removed.
        missing: Images whose file is not there.
        missing_names: The first of them.
        decoded: How many pictures were decoded on trial.
        damaged: How many of those could not be.
        damaged_messages: What is wrong with the first of them.
        contradictory: How many of the others came from a file that contradicts itself.
        contradictory_messages: How the first of them do, and what was believed.
        notes: What was chosen on reading, and what a user should know of how the table was read.
    """

    dataset: str
    settings: Mapping[str, Any]
    synthetic: bool
    images: int
    images_published: int | None
    patients: int
    patients_published: int | None
    splits: tuple[SplitCount, ...]
    labels: tuple[LabelCount, ...]
    dropped: Mapping[str, int]
    missing: int
    missing_names: tuple[str, ...]
    decoded: int
    damaged: int
    damaged_messages: tuple[str, ...]
    contradictory: int
    contradictory_messages: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def comparable(self) -> bool:
        """Whether patients and labels can be held against the published ones: no filter removed any."""
        return not any(self.dropped.values())

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the copy is not complete, the gravest first; empty where it is."""
        found = []
        rows = self.images + sum(self.dropped.values())
        if self.images_published is not None and rows < self.images_published:
            found.append(f"the table holds {rows:,} of the {self.images_published:,} images published")
        elif self.comparable:
            if self.patients < (self.patients_published or 0):
                found.append(f"there are {self.patients:,} of the {self.patients_published:,} patients")
            fewer = [c.label for c in self.labels if c.positive < (c.published or 0)]
            if fewer:
                found.append(f"fewer images than published show {', '.join(fewer)}")
        if self.missing:
            found.append(f"{self.missing:,} of {self.images:,} images are missing")
        if self.damaged:
            found.append(f"{self.damaged:,} of {self.decoded:,} images decoded on trial are damaged")
        return tuple(found)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, as far as was looked and as counts are published."""
        return not self.problems


def check(
    name: str,
    root: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    decode: int | None = 100,
    progress: Progress | None = None,
) -> CopyCheck:
    """Read a data set's table, look for every picture and decode some of them.

    Where the data set knows several projections, all of them are checked, unless ``settings`` say ``views``.

    Args:
        name: The data set, or a Python file.
        root: Folder of its files.
        settings: Its settings, as for a run.
        decode: How many pictures to decode, evenly spaced over those that are there; None for all.
        progress: Called with what is done, how many of it and of how many.

    Raises:
        UserError: If name, folder or settings are wrong, or a table cannot be read, in one line.
    """
    tell = progress or (lambda stage, done, total: None)
    source = _source(name, root, dict(settings or {}))
    tell("reading the table", 0, 1)
    dataset = source.read()
    tell("reading the table", 1, 1)
    present = _present(dataset, tell)
    absent = np.flatnonzero(~present)
    trial = _spaced(np.flatnonzero(present), decode)
    wrong, odd = _decode(dataset, trial, tell)
    published = source.readers[0].expected or Published(images=0)
    return CopyCheck(
        dataset=name,
        settings=source.settings,
        synthetic=dataset.synthetic,
        images=len(dataset),
        images_published=published.images or None,
        patients=len(np.unique(dataset.patient_id)),
        patients_published=published.patients,
        splits=tuple(_split(dataset, split) for split in SPLITS),
        labels=_labels(dataset, published),
        dropped=dict(dataset.dropped),
        missing=len(absent),
        missing_names=tuple(dataset.images.describe(int(row)) for row in absent[:NAMED]),
        decoded=len(trial),
        damaged=len(wrong),
        damaged_messages=tuple(str(error) for error in wrong[:NAMED]),
        contradictory=len(odd),
        contradictory_messages=tuple(odd[:NAMED]),
        notes=(*dataset.remarks, *_borders(dataset, np.flatnonzero(present), decode, tell)),
    )


def _source(name: str, root: str | Path | None, given: dict[str, Any]) -> DataSource:
    cls, _, _ = registry("datasets").load_preset(name)
    if root is not None and not cls.takes_root:
        raise BadSetting(f"data set {name} has no files", where="--root", fix="leave it out")
    choices = {setting.name: setting.type.split(" | ") for setting in settings_of(cls)}
    if "all" in choices.get("views", ()):
        given.setdefault("views", "all")
    return DataSource.make(name, root, given)


def _present(dataset: Dataset, tell: Progress) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which images have a picture, bool (N,)."""
    found = np.zeros(len(dataset), dtype=bool)
    for start in range(0, len(dataset), STATS):
        rows = np.arange(start, min(start + STATS, len(dataset)), dtype=np.int64)
        tell("looking for the pictures", start, len(dataset))
        found[rows] = dataset.images.exists(rows)
    tell("looking for the pictures", len(dataset), len(dataset))
    return found


def _spaced(rows: IntArray, count: int | None) -> IntArray:
    if count is None or count >= len(rows):
        return rows
    return rows[np.arange(count) * len(rows) // max(count, 1)]


def _decode(dataset: Dataset, rows: IntArray, tell: Progress) -> tuple[list[BadImage], list[str]]:
    """What is wrong with those of some pictures that cannot be decoded, and odd of others, in order."""

    def work(start: int) -> list[BadImage | str]:
        batch = rows[start : start + BATCH]
        found: list[BadImage | str] = []
        for row, picture in zip(batch.tolist(), dataset.images.load(batch), strict=True):
            if isinstance(picture, BadImage):
                found.append(picture)
            elif NOTE in picture.info:
                found.append(f"{dataset.images.describe(row)}: {picture.info[NOTE]}")
        return found

    found: list[BadImage | str] = []
    pool = ThreadPoolExecutor(WORKERS)
    try:
        for k, words in enumerate(pool.map(work, range(0, len(rows), BATCH))):
            found += words
            tell("decoding pictures", min((k + 1) * BATCH, len(rows)), len(rows))
    finally:
        pool.shutdown(cancel_futures=True)
    wrong = [word for word in found if isinstance(word, BadImage)]
    return wrong, [word for word in found if isinstance(word, str)]


def _borders(dataset: Dataset, rows: IntArray, decode: int | None, tell: Progress) -> tuple[str, ...]:
    """Whether pictures that DICOM called MONOCHROME1 have borders as the others: around a chest is dark air."""
    column = dataset.columns.get(INTERPRETATION)
    if column is None:
        return ()
    count = BORDERS if decode is None else min(decode, BORDERS)
    groups = [_spaced(rows[column[rows] == f"MONOCHROME{k}"], count) for k in (1, 2)]
    tell("comparing borders", 0, 1)
    ones, others = (_border(dataset, group) for group in groups)
    tell("comparing borders", 1, 1)
    if ones is None or others is None:
        return ()
    seen = (
        f"Borders of {len(groups[0])} pictures called MONOCHROME1 are {ones:.0f} of 255 bright, of "
        f"{len(groups[1])} others {others:.0f}"
    )
    if abs(others - 127.5) < GREY:
        return (f"{seen}: too grey to say whether monochrome1 is right",)
    if abs(ones - others) <= abs(255 - ones - others):
        return (f"{seen}: they agree, so monochrome1 is right",)
    return (f"{seen}: black and white are exchanged; choose the other value of monochrome1",)


def _border(dataset: Dataset, rows: IntArray) -> float | None:
    """How bright the outermost twentieth of some pictures is, in the middle; None where none can be read."""
    means = []
    for start in range(0, len(rows), BATCH):
        for picture in dataset.images.load(rows[start : start + BATCH]):
            if not isinstance(picture, BadImage):
                pixels = np.asarray(picture, dtype=np.float64)
                edge = [max(1, side // 20) for side in pixels.shape]
                frame = np.ones(pixels.shape, dtype=bool)
                frame[edge[0] : -edge[0], edge[1] : -edge[1]] = False
                means.append(pixels[frame].mean())
    return float(np.median(means)) if means else None


def _split(dataset: Dataset, split: str) -> SplitCount:
    rows = dataset.split == split
    return SplitCount(split, int(rows.sum()), len(np.unique(dataset.patient_id[rows])))


def _labels(dataset: Dataset, published: Published) -> tuple[LabelCount, ...]:
    ones, zeros = (dataset.targets == 1).sum(axis=0), (dataset.targets == 0).sum(axis=0)
    return tuple(
        LabelCount(label, one, zero, len(dataset) - one - zero, published.positives.get(label))
        for label, one, zero in zip(dataset.labels, ones.tolist(), zeros.tolist(), strict=True)
    )
