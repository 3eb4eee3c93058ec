"""The default probe: ridge regression, cell by cell, of how much of a cell a finding covers.

It is solved in closed form: no learning rate that suits one method better than another, the same bits on every run,
seconds on a CPU. What differs from moment to moment is the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import torch
from torch.nn import functional

from retune.methods.ridge import RidgeMoments
from retune.transfers.base import Decoder, Maps, Part, blocks

PENALTY: Final = 1e-3
"""Of the squared weights, for each cell that is learnt from, of features of unit variance."""


class Ridge(Decoder):
    """Weights of K findings on the D features of a cell.

    Args:
        weight: float64 (K, D).
        intercept: float64 (K,).
    """

    def __init__(self, weight: torch.Tensor, intercept: torch.Tensor) -> None:
        self.weight, self.intercept = weight, intercept

    @classmethod
    def fit(cls, maps: Maps, part: Part) -> Ridge:
        """Learn from every cell of the images on which a finding is known.

        Args:
            maps: Of the n images, (n, D, g, g).
            part: Their masks.
        """
        n_findings = part.known.shape[1]
        moments: RidgeMoments | None = None
        for index in blocks(len(part)):
            values = maps[index]
            grid = values.shape[-1]
            if moments is None:
                moments = RidgeMoments(values.shape[1], n_findings, "cpu")
            masks = torch.from_numpy(part.masks[index.numpy()]).double()
            share = functional.adaptive_avg_pool2d(masks, grid)
            known = torch.from_numpy(part.known[index.numpy()])[:, :, None, None]
            targets = torch.where(known, share, torch.nan)
            moments.add(_cells(values.double()), _cells(targets))
        assert moments is not None
        dim = moments.groups[0].sums.shape[0] - 1 - len(moments.groups[0].labels)
        weight = torch.zeros(n_findings, dim, dtype=torch.float64)
        intercept = torch.zeros(n_findings, dtype=torch.float64)
        for group in moments.groups:
            n, first = float(group.sums[0, 0]), group.sums[0]
            columns = list(group.labels)
            intercept[columns] = first[1 + dim :] / max(1.0, n)
            places = group.varying()
            if not places:
                continue
            spread = group.centred().diagonal()[:dim].div(n).sqrt()
            scale = torch.ones(len(group.sums), dtype=torch.float64)
            scale[1 : 1 + dim] = torch.where(spread > 0, 1 / spread, 0.0)
            scaled = replace(group, sums=group.sums * scale[:, None] * scale).take(places)
            solved, offset, _ = scaled.solve(PENALTY * n)
            columns = list(scaled.labels)
            weight[columns], intercept[columns] = solved * scale[1 : 1 + dim], offset
        return cls(weight, intercept)

    def alike(self, other: Decoder) -> bool:
        """Whether both are of features of one dimension."""
        return isinstance(other, Ridge) and self.weight.shape == other.weight.shape

    def predict(self, values: torch.Tensor) -> torch.Tensor:
        """How much of each cell is covered, float32 (b, K, g, g), of maps (b, D, g, g)."""
        found = torch.einsum("bdhw,kd->bkhw", values.double(), self.weight)
        return (found + self.intercept[:, None, None]).float()

    def state(self) -> dict[str, torch.Tensor]:
        """Weights and intercepts."""
        return {"weight": self.weight, "intercept": self.intercept}

    @classmethod
    def load(cls, state: Mapping[str, torch.Tensor]) -> Ridge:
        """One that was kept."""
        return cls(state["weight"], state["intercept"])


def _cells(values: torch.Tensor) -> torch.Tensor:
    """(b, C, g, g) as rows (b g g, C)."""
    return values.flatten(2).transpose(1, 2).reshape(-1, values.shape[1])
