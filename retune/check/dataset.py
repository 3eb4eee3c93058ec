"""All checks of a reader: what everything above the table relies on, shown on the files that are there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from retune.check.checks import Check, ContractReport, Plugin, checked, require
from retune.check.world import changed, snapshot
from retune.data.dataset import Dataset
from retune.data.findings import FINDINGS
from retune.data.readers.base import Reader
from retune.data.views import read_views
from retune.errors import BadImage, UserError
from retune.progress import Progress
from retune.prompts import load

LIMIT: Final = 120.0
"""Seconds that a check may take: a table may have hundreds of thousands of rows."""
DECODED: Final = 8
"""Pictures that are decoded."""


@dataclass(frozen=True)
class Read(Plugin[Reader]):
    """A reader to check, on the files of a folder.

    Args:
        root: The folder.
    """

    root: Path | None
    _kept: list[Dataset] = field(default_factory=list)

    def again(self) -> Dataset:
        """The table, read anew."""
        return self.made().read(self.root)

    def table(self) -> Dataset:
        """The table, read once."""
        if not self._kept:
            self._kept.append(self.again())
        return self._kept[0]


def reads(read: Read) -> None:
    """It reads a table with rows, and a mistake of the files is told in one line."""
    table = read.again()
    require(isinstance(table, Dataset), f"read gave {type(table).__name__}, not a Dataset")
    require(len(table) > 0, "the table has no rows")
    if read.cls.needs_root:
        try:
            read.made().read(None)
        except UserError:
            return
        require(False, "without a folder it reads something; write needs_root = False, or call require_root")


def says_what_it_is(read: Read) -> None:
    """It has a name, a source, a licence and labels, and its labels are known to prompts."""
    for fact in ("name", "source", "licence", "labels"):
        require(bool(getattr(read.cls, fact, None)), f"lacks {fact}")
    require(
        read.table().name == read.cls.name,
        f"its table is called '{read.table().name}', not '{read.cls.name}'",
    )
    known = set(read.table().labels) <= set(read.cls.labels)
    require(known, f"the table has labels that the class does not name: {', '.join(read.table().labels)}")
    told = {*FINDINGS, *(load(read.cls.prompts).findings if read.cls.prompts else ())}
    unknown = [label for label in read.table().labels if label not in told]
    require(
        not unknown,
        f"{', '.join(unknown)}: no bank has prompts for it; write the name that FINDINGS has, or bring prompts",
    )


def says_the_same_twice(read: Read) -> None:
    """Reading again gives the same table, whatever order the folders list their files in."""
    first = read.table()
    require(read.again().fingerprint == first.fingerprint, "reading again gives another table")
    with _listed_backwards():
        turned = read.again()
    require(
        turned.fingerprint == first.fingerprint,
        "the table depends on the order in which folders list their files",
    )


def has_every_split(read: Read) -> None:
    """There are training and test images, and no patient has both."""
    table = read.table()
    for split in ("train", "test"):
        require(split in table.split, f"has no {split} images")
    # A Dataset refuses a patient of two splits; one that was made by hand may have got past it.
    parts = [set(table.patient_id[table.split == split].tolist()) for split in ("train", "valid", "test")]
    shared = (parts[0] & parts[2]) | (parts[0] & parts[1]) | (parts[1] & parts[2])
    require(not shared, f"{len(shared)} patients are in two splits")


def has_something_to_learn(read: Read) -> None:
    """Some label has both a positive and a negative training image."""
    table = read.table()
    targets = table.targets[table.split == "train"]
    both = (targets == 1).any(axis=0) & (targets == 0).any(axis=0)
    require(bool(both.any()), "no label has both; what is known to be absent must be 0, not NaN")


def views_are_known(read: Read) -> None:
    """Its views, if it has the column, are ones that retune knows."""
    views = read.table().columns.get("view")
    if views is not None:
        _, note = read_views(np.asarray(views))
        require(not note, "; ".join(note))


def pictures_are_there(read: Read) -> None:
    """Every picture is there, and some are decoded."""
    table = read.table()
    there = table.images.exists(np.arange(len(table), dtype=np.int64))
    missing = np.flatnonzero(~there)
    if len(missing):
        name = table.images.describe(int(missing[0]))
        require(False, f"{len(missing):,} of {len(table):,} pictures are missing, such as {name}")
    some = np.linspace(0, len(table) - 1, min(DECODED, len(table))).astype(np.int64)
    for row, picture in zip(some.tolist(), table.images.load(some), strict=True):
        if isinstance(picture, BadImage):
            require(False, f"{table.images.describe(row)}: {picture.what}")
        else:
            require(
                picture.mode == "L", f"{table.images.describe(row)} is of mode {picture.mode}, not 8-bit grey"
            )


def pictures_are_told_apart(read: Read) -> None:
    """A picture's key is its content's: the same when read again, and of some rows as of all."""
    table, other = read.table(), read.again()
    some = np.arange(min(64, len(table)), dtype=np.int64)
    keys = table.images.keys(some)
    require(other.images.keys(some) == keys, "keys change when the table is read again")
    require(table.images.keys(some[::-1]) == keys[::-1], "a key depends on the other rows")
    taken = table.take(some[::-1])
    require(taken.images.keys(np.arange(len(some))) == keys[::-1], "keys of a part of the table are others")


def outlines_fit(read: Read) -> None:
    """Outlines, if there are any, are masks of the findings, and nothing is outlined that nobody looked for."""
    regions = read.table().regions
    if regions is None:
        return
    some = np.linspace(0, len(read.table()) - 1, min(DECODED, len(read.table()))).astype(np.int64)
    known, masks = regions.known(some), regions.masks(some)
    for row, looked, mask in zip(some.tolist(), known, masks, strict=True):
        right = mask.ndim == 3 and mask.dtype == bool and len(mask) == len(regions.findings)
        require(right, f"the mask of row {row} is {mask.dtype} {mask.shape}, not bool (K, H, W)")
        require(not mask[~looked].any(), f"row {row} has an outline of what it says nobody looked for")
    require(regions.keys(some) == read.again().regions.keys(some), "keys of outlines change when read again")  # type: ignore[union-attr]


def changes_nothing(read: Read) -> None:
    """No file is written, and random generators, working directory, environment and the like stay."""
    files = _files(read.root)
    before = snapshot()
    read.again()
    found = changed(before)
    require(not found, f"changed: {', '.join(found)}")
    require(_files(read.root) == files, "reading changed the files of the folder")


CHECKS: Final = tuple(
    Check[Read](demand)
    for demand in (
        reads, says_what_it_is, says_the_same_twice, has_every_split, has_something_to_learn, views_are_known,
        pictures_are_there, pictures_are_told_apart, outlines_fit, changes_nothing,
    )
)  # fmt: skip


def check_dataset(
    dataset: str | type[Reader] | Reader,
    root: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    limit: float = LIMIT,
    progress: Progress | None = None,
) -> ContractReport:
    """See whether a reader keeps the contract on the files that are there.

    Args:
        dataset: Name of a data set, a Python file, a class, or an instance.
        root: Folder of its files.
        settings: Others than the default ones; values may be text.
        limit: Seconds that a check may take.
        progress: Called with what is done, how much of it and how much there is to do.

    Raises:
        UserError: If there is no such reader or setting, or it cannot be imported.
    """
    folder = Path(root).expanduser().resolve() if root else None
    return checked(
        "datasets",
        dataset,
        partial(Read, root=folder),
        CHECKS,
        settings=settings,
        limit=limit,
        progress=progress,
    )


@contextmanager
def _listed_backwards() -> Iterator[None]:
    """Let folders list their files the other way round."""
    plain: Callable[..., list[str]] = os.listdir
    scan = os.scandir

    class Backwards:
        def __init__(self, entries: Any) -> None:
            self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            return next(self.entries)

        def close(self) -> None:
            """Nothing is open."""

    os.listdir = lambda *given: sorted(plain(*given), reverse=True)  # type: ignore[assignment]
    os.scandir = lambda *given: Backwards(list(scan(*given)))  # type: ignore[assignment]
    try:
        yield
    finally:
        os.listdir, os.scandir = plain, scan  # type: ignore[assignment]


def _files(root: Path | None) -> list[tuple[str, int]]:
    """Files right in a folder, with the time of their last change."""
    if root is None or not root.is_dir():
        return []
    return sorted((entry.name, entry.stat().st_mtime_ns) for entry in os.scandir(root))
