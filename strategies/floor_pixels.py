"""A floor, no method: the picture at 32 x 32 grey values, and no backbone.

What can be told from a thumbnail (who lies, who is large, where the heart's shadow ends) needs no pre-trained model. What
a method reaches says something of its backbone as far as it lies above this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch.nn.functional import interpolate

from retune.methods.given import Images, Need
from retune.methods.ridge import RidgeRegression
from retune.settings import Count

AT_ONCE: Final = 256
"""Pictures that are made small at a time."""


@dataclass
class FloorPixels(RidgeRegression):
    """Ridge regression on the grey values of the preprocessed picture, averaged over a square grid.

    Args:
        penalty: Of the squared norm of each label's weights; none chooses it for each label by
            generalised cross-validation on all training images so far.
        side: Places of the grid along each side.
    """

    name: ClassVar[str] = "floor-pixels"
    needs: ClassVar[frozenset[Need]] = frozenset({"pixels"})
    floor: ClassVar[bool] = True

    side: Count = 32

    def seen(self, images: Images) -> torch.Tensor:
        """Grey values between 0 and 1, float32 (N, side x side)."""
        parts = [
            interpolate(
                images.pixels[rows][:, None].float() / 255, (self.side, self.side), mode="area"
            ).flatten(1)
            for rows in torch.arange(len(images)).split(AT_ONCE)
        ]
        return torch.cat(parts)

    def regressors(self, seen: torch.Tensor) -> torch.Tensor:
        """The same in double precision."""
        return seen.double()

    def width(self) -> int:
        """One for each place of the grid."""
        return self.side**2

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """One weight for each place of the grid and one intercept per label."""
        return {"all labels": n_labels * (cls.side**2 + 1)}
