"""What did not change from one moment to the next is measured once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def distinct(scores: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp], NDArray[np.intp]]:
    """The columns of scores that differ: a label's scores that did not change since are measured once.

    Args:
        scores: ``(T+1, N, C)``.

    Returns:
        ``(N, K)`` the columns, ``(K,)`` the label of each, ``(T+1, C)`` where each moment's and label's is among them.
    """
    moments, _, labels = scores.shape
    columns = np.ascontiguousarray(scores.transpose(2, 0, 1))  # (C, T+1, N)
    found: dict[tuple[int, bytes], int] = {}
    place = np.array(
        [
            [found.setdefault((c, columns[c, i].tobytes()), len(found)) for c in range(labels)]
            for i in range(moments)
        ]
    )
    _, one_of_each = np.unique(place, return_index=True)
    moment, label = np.unravel_index(one_of_each, place.shape)
    return columns[label, moment].T, label, place
