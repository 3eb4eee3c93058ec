"""What an uncertain and an unmentioned label count as."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from retune.data.dataset import Array, FloatArray

Uncertain = Literal["ignore", "zeros", "ones"]
"""What a label marked uncertain becomes (Irvin et al., 2019): unknown, absent or present."""
Blank = Literal["ignore", "zeros"]
"""What a label that was not mentioned becomes: unknown or absent."""
UNCERTAIN: Final = -1.0
"""How an uncertain label is written in CheXpert's and MIMIC-CXR's tables."""


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
