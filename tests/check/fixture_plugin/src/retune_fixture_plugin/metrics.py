"""A metric of one's own."""

from __future__ import annotations

import numpy as np

from retune import OwnMetric


class Rise(OwnMetric):
    """Largest rise of a label since before training."""

    name = "rise"

    def measure(self, matrix, scores, targets):
        """One number."""
        return np.nanmax(matrix[-1] - matrix[0])
