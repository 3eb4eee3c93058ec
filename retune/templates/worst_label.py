"""How good the worst label is at the end."""

import numpy as np

from retune import OwnMetric
from retune.metrics.own.base import Array


class WorstLabel(OwnMetric):
    """AUC of the worst label at the end."""  # what tables say of it

    name = "worst-label"
    better = "higher"  # or "lower"

    def measure(self, matrix: Array, scores: Array, targets: Array) -> float:
        # Of what it is given alone; NaN where undefined.
        # matrix (T+1, C): AUC of each label before training and after each experience, NaN where undefined
        # scores (T+1, N, C) of the test images: higher means more likely present
        # targets (N, C): 1 present, 0 absent, NaN where nobody looked
        last = matrix[-1]
        return np.nan if np.isnan(last).all() else np.nanmin(last)


def test_worst_label() -> None:  # pytest worst_label.py
    matrix = np.array([[0.5, 0.5, np.nan], [0.9, 0.7, np.nan]])
    assert WorstLabel().measure(matrix, np.zeros((2, 4, 3)), np.zeros((4, 3))) == 0.7
