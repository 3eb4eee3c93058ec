"""The 14 label columns that CheXpert's and MIMIC-CXR's tables share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from retune.data import findings
from retune.data.dataset import Array, FloatArray
from retune.data.tables import refuse
from retune.errors import BadTable

if TYPE_CHECKING:
    import pandas as pd

Uncertain = Literal["ignore", "zeros", "ones"]
"""What a label marked uncertain becomes (Irvin et al., 2019): unknown, absent or present."""
Blank = Literal["ignore", "zeros"]
"""What a label that was not mentioned becomes: unknown or absent."""
UNCERTAIN: Final = -1.0
"""How an uncertain label is written in CheXpert's and MIMIC-CXR's tables."""

CODES: Final = {
    spelling: value
    for value, text in ((1.0, "1"), (0.0, "0"), (UNCERTAIN, "-1"))
    for spelling in (text, f"{text}.0")
} | {"": np.nan}
"""How present, absent, uncertain and not mentioned are written."""


def read_labels(frame: pd.DataFrame, table: Path) -> FloatArray:
    """The label columns as published.

    Args:
        frame: A table from ``read_table`` with one column per label of CheXpert, in any order.
        table: Its file, for messages.

    Returns:
        float32 (N, 14) in the order of ``findings.CHEXPERT``: 1 present, 0 absent, -1 uncertain,
        NaN not mentioned.

    Raises:
        BadTable: With row and column, if a value is none of these.
    """
    import pandas as pd

    cells = frame[list(findings.CHEXPERT)].to_numpy(object)
    which, values = pd.factorize(cells.ravel())
    known = np.array([str(value) in CODES for value in values], dtype=bool)
    bad = ~known[which].reshape(cells.shape)
    for k in np.flatnonzero(bad.any(axis=0)):
        what = "'{}' is no label value (1.0, 0.0, -1.0 or blank)"
        refuse(frame, bad[:, k], findings.CHEXPERT[k], table, what)
    numbers = np.array([CODES[str(value)] for value in values], dtype=np.float32)
    return np.asarray(numbers[which].reshape(cells.shape))


def targets_of(labels: Array, uncertain: Uncertain, blank: Blank, table: Path) -> FloatArray:
    """Turn labels as published into targets that hold something to learn.

    Args:
        labels: From ``read_labels``, shape (N, 14).
        uncertain: What -1 becomes.
        blank: What NaN becomes.
        table: The labels' file, for the message.

    Returns:
        float32 (N, 14): 1 present, 0 absent, NaN unknown.

    Raises:
        BadTable: If no label of any image is known then.
    """
    targets = decide(labels, uncertain, blank)
    if np.isnan(targets).all():
        what = f"no label of any image is known with uncertain={uncertain} and blank={blank}"
        raise BadTable(what, where=str(table))
    return targets


def decide(labels: Array, uncertain: Uncertain, blank: Blank) -> FloatArray:
    """Turn labels as published into targets.

    Args:
        labels: Any shape; 1 present, 0 absent, -1 uncertain, NaN not mentioned.
        uncertain: What -1 becomes.
        blank: What NaN becomes.

    Returns:
        float32 of the same shape: 1 present, 0 absent, NaN unknown.
    """
    targets = np.array(labels, dtype=np.float32)
    unsure, unmentioned = targets == UNCERTAIN, np.isnan(targets)
    targets[unsure] = {"ignore": np.nan, "zeros": 0.0, "ones": 1.0}[uncertain]
    targets[unmentioned] = {"ignore": np.nan, "zeros": 0.0}[blank]
    return targets
