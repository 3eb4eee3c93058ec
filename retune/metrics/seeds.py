"""Over seeds: mean and standard deviation of what is defined."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from retune.metrics.binary import Floats
from retune.metrics.continual import nan_mean


def mean_and_sd(stack: ArrayLike) -> tuple[Floats, Floats]:
    """Mean and sample standard deviation over the first axis of what is not NaN.

    Returns:
        Both of the remaining shape; NaN below one and below two numbers.
    """
    values = np.moveaxis(np.asarray(stack, dtype=np.float64), 0, -1)
    mean = np.asarray(nan_mean(values))
    n = np.isfinite(values).sum(axis=-1)
    squares = np.nansum((values - mean[..., None]) ** 2, axis=-1)
    return mean, np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1)), np.nan)
