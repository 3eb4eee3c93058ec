"""How a table is cut by time: the year in which each patient first comes, and years put together."""

from __future__ import annotations

from typing import Final

import numpy as np

from retune.data.dataset import Dataset, IntArray
from retune.errors import BadSetting
from retune.streams.cuts import known_labels

FEWEST: Final = 20
"""Training images that a year needs to be an experience of its own."""


def years_of(dataset: Dataset, *, where: str) -> IntArray:
    """The year of each training image, (n,).

    Args:
        dataset: Its column ``date`` begins with the year.
        where: For messages.

    Raises:
        BadSetting: If it has no dates, or not one of every training image.
    """
    if "date" not in dataset.columns:
        raise BadSetting(
            f"data set {dataset.name} has no dates",
            where=where,
            fix="padchest and phantom/years have some, mimic-cxr with data.dates=true, a csv table with a column of them "
            "(data.date=COLUMN); what others publish has none",
        )
    rows = dataset.rows("train")
    years = dataset.columns["date"][rows].astype("U4")
    unknown = rows[years == ""]
    if len(unknown):
        raise BadSetting(
            f"{len(unknown):,} of {len(rows):,} training images have no known date, the first is "
            f"'{dataset.image_id[unknown[0]]}'",
            where=where,
            fix="date them (2014 or 2014-09-15), leave them out of the table, or use another setting",
        )
    return years.astype(np.int64)


def periods(
    dataset: Dataset, years: IntArray, steps: int | None, *, where: str
) -> tuple[list[IntArray], str]:
    """Cut the training rows by year, the earliest first, no patient in two parts.

    A patient who comes in several years belongs to the earliest one, with all images.

    Args:
        dataset: The table.
        years: Of each training image, (n,).
        steps: How many parts; neighbouring years are put together where there are more years. None for a part a year.
        where: For messages.

    Returns:
        Rows of each part, ascending, and in words which years they are.

    Raises:
        BadSetting: If there are fewer years than steps, a year has too few images, or a part has no known label.
    """
    rows = dataset.rows("train")
    _, patient = np.unique(dataset.patient_id[rows], return_inverse=True)
    earliest = np.full(patient.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(earliest, patient, years)
    home = earliest[patient]
    found, images = np.unique(home, return_counts=True)
    if steps is None and images.min(initial=FEWEST) < FEWEST:
        few = int(images.argmin())
        raise BadSetting(
            f"{found[few]} has {images[few]} training images of patients who had not come before, fewer than {FEWEST}",
            where=where,
            fix=f"give --steps {max(1, len(found) - 1)} or fewer: neighbouring years are then put together",
        )
    steps = steps or len(found)
    if steps > len(found):
        raise BadSetting(
            f"{steps} steps asked for, but patients first come in {len(found)} years: {', '.join(map(str, found))}",
            where=where,
            fix=f"give --steps {len(found)} or fewer, or leave it out",
        )
    # A year joins the part in which the middle of its images falls; if one is left empty, share by years instead.
    part = np.minimum((np.cumsum(images) - images / 2) * steps // len(rows), steps - 1)
    if len(np.unique(part)) < steps:
        part = np.arange(len(found)) * steps // len(found)
    together = [found[part == k] for k in range(steps)]
    parts = [rows[np.isin(home, those)] for those in together]
    told = [f"{of[0]}" if len(of) == 1 else f"{of[0]} to {of[-1]}" for of in together]
    for name, those in zip(told, parts, strict=True):
        if not len(known_labels(dataset, those)):
            raise BadSetting(f"no label is known of any training image of {name}", where=where)
    again = int((home != years).sum())
    more = (
        f"; {again:,} images of patients who come again stand in the year of their first one" if again else ""
    )
    return parts, ", ".join(told) + more
