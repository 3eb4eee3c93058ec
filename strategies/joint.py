"""The upper bound: one classifier per label, fitted to all images and all labels at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from retune.adaptors import normalised
from retune.losses import masked_bce
from retune.settings import Count, NonNegative
from retune.strategy import Context, Images, State, Strategy, Training


@dataclass
class Joint(Strategy):
    """Logistic regression on L2-normalised features, fitted to convergence on the whole stream.

    It sees what no continual method may see, and its row is the same after every experience.

    Args:
        l2: Weight of the squared norm of the classifier's standardised weights.
        iterations: Most iterations of L-BFGS.
    """

    name: ClassVar[str] = "joint"
    sees_everything: ClassVar[bool] = True

    l2: NonNegative = 1e-3
    iterations: Count = 200

    def setup(self, context: Context) -> None:
        """Start as the zero-shot classifier; see :meth:`Strategy.setup`."""
        self.context = context
        self.weight = context.prompts.score(torch.eye(context.dim), "embeddings", "difference").T.contiguous()
        self.bias = torch.zeros(len(context.labels))

    def fit(self, experience: Training) -> None:
        """Minimise masked cross-entropy plus the penalty, in standardised coordinates."""
        features = normalised(experience.images.features)
        if not len(features):
            return
        mean, scale = features.mean(0), features.std(0, correction=0).clamp(min=1e-6)
        standard, targets = (features - mean) / scale, experience.targets
        weight = torch.zeros_like(self.weight, requires_grad=True)
        bias = torch.zeros_like(self.bias, requires_grad=True)
        optim = torch.optim.LBFGS([weight, bias], max_iter=self.iterations, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optim.zero_grad()
            loss = masked_bce(functional.linear(standard, weight, bias), targets)
            loss = loss + self.l2 * weight.square().sum() / len(weight)
            loss.backward()
            return loss

        optim.step(closure)
        self.weight = (weight / scale).detach()
        self.bias = (bias - self.weight @ mean).detach()

    def score(self, images: Images) -> torch.Tensor:
        """Logits, float32 (N, C)."""
        return functional.linear(normalised(images.features), self.weight, self.bias)

    def state_dict(self) -> State:
        """Weights (C, d) and biases (C,)."""
        return {"weight": self.weight, "bias": self.bias}

    def load_state_dict(self, state: State) -> None:
        """Take up weights and biases."""
        self.weight, self.bias = state["weight"], state["bias"]

    def trainable_parameters(self) -> int:
        """C (d + 1)."""
        return self.weight.numel() + self.bias.numel()

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """One weight vector and one bias per label."""
        return {"all labels": n_labels * (dim + 1)}
