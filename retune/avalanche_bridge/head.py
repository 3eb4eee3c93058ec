"""What Avalanche trains here: a classifier of one sigmoid per label on frozen features."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from retune.methods.adaptors import adaptor
from retune.methods.linear import LinearHead

HeadKind = Literal["linear", "adaptor"]


class Head(nn.Module):
    """Logits W h + b, with h the features, or the features and what an adaptor adds to them.

    W, b and the adaptor's last layer start at zero, so that an adaptor changes nothing at first.

    Args:
        kind: linear, h = x, each label on its own; adaptor, h = x + A(x) with RE-tune's mlp A, which all
            labels share: Linear(d, 2d), ReLU, Linear(2d, d).
        dim: Dimension d of the features.
        n_labels: Number of labels C.
        generator: Source of the adaptor's initial weights; None leaves them uninitialised.
    """

    def __init__(
        self, kind: HeadKind, dim: int, n_labels: int, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.classifier = LinearHead(dim, n_labels)
        self.body: nn.Module | None = None
        if kind == "adaptor":
            self.body = adaptor("mlp", dim, generator=generator)
            for parameter in list(self.body.parameters())[-2:]:
                nn.init.zeros_(parameter)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of features (N, d)."""
        inner = features if self.body is None else features + self.body(features)
        logits: torch.Tensor = self.classifier(inner)
        return logits
