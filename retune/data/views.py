"""Projections of a chest radiograph, spelt alike over data sets, and the filter on them."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from retune.data.dataset import Array

Views = Literal["frontal", "PA", "AP", "lateral", "all"]
"""Which projections to keep; frontal is PA, AP and frontal ones of which no more is known."""
KEPT: Final[dict[str, tuple[str, ...]]] = {
    "frontal": ("PA", "AP", "frontal"),
    "PA": ("PA",),
    "AP": ("AP",),
    "lateral": ("lateral",),
}
"""The values of a data set's column ``view`` that each choice keeps.

A reader spells projections ``PA``, ``AP``, ``frontal`` (PA or AP, not said which), ``lateral``,
``other`` (oblique, costal, excluded by the publisher) and ``""`` where the table does not say.
"""


def in_views(view: Array, views: Views) -> npt.NDArray[np.bool_]:
    """Which images a choice of views keeps; (N,) to bool (N,).

    Args:
        view: The data set's column ``view``.
        views: The choice.
    """
    if views == "all":
        return np.ones(len(view), dtype=bool)
    return np.isin(view, KEPT[views])
