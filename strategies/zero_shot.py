"""Prompts alone: the frozen backbone scores every label and nothing is ever trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from retune.methods.given import Images, Training
from retune.methods.strategy import Strategy
from retune.prompts.embeddings import Combine, Scoring

if TYPE_CHECKING:
    import torch


@dataclass
class ZeroShot(Strategy):
    """Similarity to a label's positive prompts minus similarity to its negative ones.

    Args:
        scoring: difference of positive and negative similarity, or the positive one alone.
        combine: How the prompts of one label are combined: embeddings, scores or max.
    """

    name: ClassVar[str] = "zero-shot"
    paper: ClassVar[str] = "Tiu et al., CheXzero, Nature Biomedical Engineering 2022"
    optimises: ClassVar[bool] = False

    scoring: Scoring = "difference"
    combine: Combine = "embeddings"

    def fit(self, experience: Training) -> None:
        """Learn nothing."""

    def score(self, images: Images) -> torch.Tensor:
        """Cosine similarities, float32 (N, C)."""
        return self.context.prompts.score(images.features, self.combine, self.scoring)
