"""What a table says of an image beside its findings, as numbers: view, sex and age."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from retune.data.dataset import Array, FloatArray, IntArray

VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "view": ("PA", "AP", "frontal", "lateral", "other"),
    "sex": ("F", "M"),
}
"""What each value of a column of texts has a number of its own for; the others are unknown."""
AGES: Final = 0, 120
"""Years; ages beyond them, which tables hold by mistake, are unknown."""
ATTRIBUTES: Final = (*VALUES["view"], *VALUES["sex"], "age known", "age", "age squared")
"""What the numbers are, in their order."""


def attributes(columns: Mapping[str, Array], rows: IntArray) -> FloatArray:
    """View and sex as 0 or 1 for each value, age in centuries and its square; unknown is 0 throughout.

    Args:
        columns: Of a data set; those that it lacks are unknown.
        rows: Which of its n rows.

    Returns:
        float32 (n, 10), in the order of :data:`ATTRIBUTES`.
    """
    found: list[npt.NDArray[np.float32]] = []
    for column, values in VALUES.items():
        told = columns[column][rows].astype(str) if column in columns else np.full(len(rows), "")
        found += [(told == value).astype(np.float32) for value in values]
    age = (
        columns["age"][rows].astype(np.float32)
        if "age" in columns
        else np.full(len(rows), np.nan, np.float32)
    )
    known = (age >= AGES[0]) & (age <= AGES[1])
    centuries = np.where(known, age, 0).astype(np.float32) / 100
    return np.stack([*found, known.astype(np.float32), centuries, centuries**2], axis=1)


def lacks_attributes(columns: Mapping[str, Array]) -> bool:
    """Whether a data set has none of these columns."""
    return not {*VALUES, "age"} & set(columns)
