"""A strategy that works, and one that is not finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.functional import normalize

from retune import Context, Images, Strategy, Training


@dataclass
class PositiveMean(Strategy):
    """Similarity to the mean of each label's positive images.

    Args:
        prior: Weight of nothing.
    """

    name: ClassVar[str] = "positive-mean"
    needs = frozenset({"features"})
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"cautious": {"prior": 10.0}}

    prior: float = 1.0

    def setup(self, context: Context) -> None:
        self.context = context
        self.sums = torch.zeros(len(context.labels), context.dim)
        self.counts = torch.zeros(len(context.labels), 1)

    def fit(self, experience: Training) -> None:
        positive = (experience.targets == 1).float()
        self.sums = self.sums + positive.T @ normalize(experience.images.features)
        self.counts = self.counts + positive.sum(dim=0)[:, None]

    def score(self, images: Images) -> torch.Tensor:
        return normalize(images.features) @ (self.sums / (self.counts + self.prior)).T

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.counts = state["sums"], state["counts"]


class Unfinished(Strategy):
    """It cannot score yet."""

    name: ClassVar[str] = "unfinished"

    def fit(self, experience: Training) -> None: ...
