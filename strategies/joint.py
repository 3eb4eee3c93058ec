"""The upper bound: one classifier per label, fitted to all images and all labels at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from retune.methods.adaptors import normalised
from retune.methods.given import Training
from retune.methods.linear import LinearStrategy
from retune.methods.losses import masked_bce
from retune.settings import Count, NonNegative


@dataclass
class Joint(LinearStrategy):
    """Logistic regression on L2-normalised features, fitted to convergence on the whole stream.

    It sees what no continual method may see, and its row is the same after every experience.

    Args:
        start: What it scores before it is fitted: zero-shot by prompts, or zeros without them.
        l2: Weight of the squared norm of the classifier's standardised weights.
        iterations: Most iterations of L-BFGS.
    """

    name: ClassVar[str] = "joint"
    sees_everything: ClassVar[bool] = True

    l2: NonNegative = 1e-3
    iterations: Count = 200

    def fit(self, experience: Training) -> None:
        """Minimise masked cross-entropy plus the penalty, in standardised coordinates."""
        features = normalised(experience.images.features)
        if not len(features):
            return
        mean, scale = features.mean(0), features.std(0, correction=0).clamp(min=1e-6)
        standard, targets = (features - mean) / scale, experience.targets
        weight = torch.zeros_like(self.linear.weight, requires_grad=True)
        bias = torch.zeros_like(self.linear.bias, requires_grad=True)
        optim = torch.optim.LBFGS([weight, bias], max_iter=self.iterations, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optim.zero_grad()
            loss = masked_bce(functional.linear(standard, weight, bias), targets)
            loss = loss + self.l2 * weight.square().sum() / len(weight)
            loss.backward()
            return loss

        optim.step(closure)
        self.linear.weight.data = (weight / scale).detach()
        self.linear.bias.data = (bias - self.linear.weight @ mean).detach()
