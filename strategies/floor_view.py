"""A floor, no method: view, sex and age from the table, and nothing of the picture.

Portable pictures (AP) are taken of the sickest, and many findings come with age: a table of views alone tells
patients with a finding from those without it better than chance. What a method reaches on pictures says something of
the picture as far as it lies above this. A data set whose table has none of the three gives every image one score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from retune.data.attributes import ATTRIBUTES
from retune.methods.given import Images, Need
from retune.methods.ridge import RidgeRegression


@dataclass
class FloorView(RidgeRegression):
    """Ridge regression on view, sex, age and its square.

    Args:
        penalty: Of the squared norm of each label's weights; none chooses it for each label by
            generalised cross-validation on all training images so far.
    """

    name: ClassVar[str] = "floor-view"
    needs: ClassVar[frozenset[Need]] = frozenset({"table"})
    floor: ClassVar[bool] = True

    def seen(self, images: Images) -> torch.Tensor:
        """The table's numbers, (N, 10)."""
        return images.table

    def regressors(self, seen: torch.Tensor) -> torch.Tensor:
        """The same in double precision."""
        return seen.double()

    def width(self) -> int:
        """One for each of the table's numbers."""
        return len(ATTRIBUTES)

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """One weight for each of the table's numbers and one intercept per label."""
        return {"all labels": n_labels * (len(ATTRIBUTES) + 1)}
