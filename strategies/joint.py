"""The upper bound: one classifier per label, fitted to all images and all labels at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.nn import functional

from retune.adaptors import normalised
from retune.losses import masked_bce
from retune.settings import Count, NonNegative
from retune.strategy import Context, Images, Need, State, Strategy, Training


@dataclass
class Joint(Strategy):
    """Logistic regression on L2-normalised features, fitted to convergence on the whole stream.

    It sees what no continual method may see, and its row is the same after every experience.

    Args:
        start: What it scores before it is fitted: zero-shot by prompts, or zeros without them.
        l2: Weight of the squared norm of the classifier's standardised weights.
        iterations: Most iterations of L-BFGS.
    """

    name: ClassVar[str] = "joint"
    sees_everything: ClassVar[bool] = True

    start: Literal["zero-shot", "zeros"] = "zero-shot"
    l2: NonNegative = 1e-3
    iterations: Count = 200

    def requires(self) -> frozenset[Need]:
        """Prompts are used by the zero-shot start only."""
        return self.needs if self.start == "zero-shot" else frozenset({"features"})

    def setup(self, context: Context) -> None:
        """Start as the zero-shot classifier, or at zero; see :meth:`Strategy.setup`."""
        self.context = context
        self.weight = torch.zeros(len(context.labels), context.dim, device=context.device)
        if self.start == "zero-shot":
            identity = torch.eye(context.dim, device=context.device)
            self.weight = context.prompts.score(identity, "embeddings", "difference").T.contiguous()
        self.bias = torch.zeros(len(context.labels), device=context.device)

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
        device = self.context.device
        self.weight, self.bias = state["weight"].to(device), state["bias"].to(device)

    def trainable_parameters(self) -> int:
        """C (d + 1)."""
        return self.weight.numel() + self.bias.numel()

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """One weight vector and one bias per label."""
        return {"all labels": n_labels * (dim + 1)}
