"""One linear classifier per label on frozen features, fine-tuned through the stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.nn import functional

from retune.adaptors import normalised
from retune.losses import masked_bce
from retune.settings import Count, NonNegative, Positive
from retune.strategy import Context, Images, Need, State, Strategy, Training
from retune.training import train


@dataclass
class LinearProbe(Strategy):
    """Sequential logistic regression on L2-normalised features; nothing protects old labels.

    The labels' weight vectors are independent of each other, so a label that is not observed any
    more keeps its own: forgetting can only come from seeing a label again in other data.

    Args:
        start: zero-shot begins with each label's prompt direction, zeros with no knowledge.
        lr: Learning rate of Adam.
        epochs: Passes over each experience.
        batch_size: Images a step.
        weight_decay: L2 penalty.
    """

    name: ClassVar[str] = "linear-probe"

    start: Literal["zero-shot", "zeros"] = "zero-shot"
    lr: Positive = 1e-3
    epochs: Count = 30
    batch_size: Count = 256
    weight_decay: NonNegative = 1e-4

    def requires(self) -> frozenset[Need]:
        """Prompts are used by the zero-shot start only."""
        return self.needs if self.start == "zero-shot" else frozenset({"features"})

    def setup(self, context: Context) -> None:
        """Make the classifier; see :meth:`Strategy.setup`."""
        self.context = context
        device = context.device
        self.weight = torch.nn.Parameter(torch.zeros(len(context.labels), context.dim, device=device))
        self.bias = torch.nn.Parameter(torch.zeros(len(context.labels), device=device))
        if self.start == "zero-shot":
            # Scores are linear in the image here: the identity's scores are the weights.
            self.weight.data = context.prompts.score(
                torch.eye(context.dim, device=device), "embeddings", "difference"
            ).T.contiguous()

    def fit(self, experience: Training) -> None:
        """Descend the masked cross-entropy of this experience, for the observed labels only."""
        features, observed = normalised(experience.images.features), list(experience.observed)
        targets = experience.targets[:, observed]
        # Trained alone, so that weight decay leaves the unobserved labels as they are.
        weight = torch.nn.Parameter(self.weight.data[observed])
        bias = torch.nn.Parameter(self.bias.data[observed])

        def loss(batch: torch.Tensor) -> torch.Tensor:
            return masked_bce(functional.linear(features[batch], weight, bias), targets[batch])

        train(
            [weight, bias],
            loss,
            len(experience),
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
            generator=experience.generator(),
        )
        self.weight.data[observed], self.bias.data[observed] = weight.data, bias.data

    def score(self, images: Images) -> torch.Tensor:
        """Logits, float32 (N, C)."""
        with torch.no_grad():
            return functional.linear(normalised(images.features), self.weight, self.bias)

    def state_dict(self) -> State:
        """Weights (C, d) and biases (C,)."""
        return {"weight": self.weight.data, "bias": self.bias.data}

    def load_state_dict(self, state: State) -> None:
        """Take up weights and biases."""
        device = self.context.device
        self.weight.data, self.bias.data = state["weight"].to(device), state["bias"].to(device)

    def trainable_parameters(self) -> int:
        """C (d + 1)."""
        return self.weight.numel() + self.bias.numel()

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """One weight vector and one bias per label."""
        return {"all labels": n_labels * (dim + 1)}
