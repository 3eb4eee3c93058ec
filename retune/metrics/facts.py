"""What the training images of a stream say of each label: when it can first have been learnt, and how common it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retune.metrics.binary import Floats

Group = Literal["head", "medium", "tail"]
"""Of labels: more than 10 % of the training images show it, 2 to 10 % do, less than 2 % do."""


@dataclass(frozen=True, eq=False)
class LabelFacts:
    """What metrics need to know of the training images, beside the test scores.

    Args:
        first: ``(C,)`` integers: the first experience, 1 to T, that can have taught each label, 0 if none can; see
            :func:`retune.metrics.first_learnt`.
        prevalence: ``(C,)`` from 0 to 1, see `prevalence_of`; NaN where it is not known.
    """

    first: NDArray[np.signedinteger[Any]]
    prevalence: Floats

    @classmethod
    def of(cls, first: ArrayLike, prevalence: ArrayLike | None = None) -> Self:
        """The same of lists; without prevalence no label is in a group.

        Raises:
            ValueError: If there is not one prevalence a label.
        """
        start = np.asarray(first)
        share = np.full(start.shape, np.nan) if prevalence is None else np.asarray(prevalence, np.float64)
        if share.shape != start.shape:
            raise ValueError(f"prevalence {share.shape} must hold a number for each label, {start.shape}")
        return cls(start, share)

    def among(self, group: Group) -> NDArray[np.bool_]:
        """Which labels are of a group, ``(C,)``; of unknown prevalence none is."""
        share = self.prevalence
        return {"head": share > 0.1, "medium": (share >= 0.02) & (share <= 0.1), "tail": share < 0.02}[group]


def prevalence_of(targets: ArrayLike) -> Floats:
    """Positive images of those whose label is known, for each label.

    Args:
        targets: ``(N, C)`` of the training images: 1, 0, or NaN where unknown.

    Returns:
        ``(C,)``; NaN for a label that is known of no image.
    """
    y = np.asarray(targets)
    known = (~np.isnan(y)).sum(axis=0)
    share: Floats = np.where(known > 0, (y == 1).sum(axis=0) / np.maximum(known, 1), np.nan)
    return share
