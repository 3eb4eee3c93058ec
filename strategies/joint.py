"""The upper bound: one classifier per label, fitted to all images and all labels at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from retune.methods.adaptors import normalised
from retune.methods.given import Training
from retune.methods.linear import TrunkOrLinear
from retune.methods.losses import masked_bce
from retune.settings import Count, NonNegative


@dataclass
class Joint(TrunkOrLinear):
    """Logistic regression on L2-normalised features, fitted to convergence on the whole stream.

    It sees what no continual method may see, and its row is the same after every experience. With a trunk it is
    the bound of what has one: with 37 times the parameters, and held to its start by ``l2``, it is not above the
    linear one on phantom.

    Args:
        start: What it scores before it is fitted: zero-shot by prompts, or zeros without them.
        l2: Weight of the squared norm of the classifier's standardised weights, a mean over labels, and of a trunk's
            squared distance from where it began; the preset's was chosen on further draws of phantom.
        iterations: Most iterations of L-BFGS.
    """

    name: ClassVar[str] = "joint"
    sees_everything: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"trunk": {"head": "trunk", "l2": 0.01}}

    l2: NonNegative = 1e-3
    iterations: Count = 200

    def fit(self, experience: Training) -> None:
        """Minimise masked cross-entropy plus the penalty, in standardised coordinates."""
        features = normalised(experience.images.features)
        if not len(features):
            return
        mean, scale = features.mean(0), features.std(0, correction=0).clamp(min=1e-6)
        standard, targets = (features - mean) / scale, experience.targets
        head = self.made_head()
        trunk = list(head.trunk.parameters())
        begun = [parameter.detach().clone() for parameter in trunk]
        optim = torch.optim.LBFGS(head.parameters(), max_iter=self.iterations, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optim.zero_grad()
            loss = masked_bce(head(standard), targets)
            loss = loss + self.l2 * head.weight.square().sum() / len(head.weight)
            for now, then in zip(trunk, begun, strict=True):
                loss = loss + self.l2 * (now - then).square().sum()
            loss.backward()
            return loss

        optim.step(closure)
        # The layer that features come to takes them as they are.
        first = head.trunk[0] if isinstance(head.trunk, nn.Sequential) else head
        first.weight.data = (first.weight / scale).detach()
        first.bias.data = (first.bias - first.weight @ mean).detach()
        self.linear.load_state_dict(head.state_dict())
