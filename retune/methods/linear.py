"""One linear classifier per label on frozen features, starting where the backbone is: what many methods share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.nn import functional

from retune.methods.adaptors import normalised
from retune.methods.given import Context, Images, Need, Training
from retune.methods.memory import SampleMemory
from retune.methods.strategy import State, Strategy
from retune.methods.training import train
from retune.settings import Count, NonNegative, Positive

Start = Literal["zero-shot", "zeros"]
"""What labels score before they are learnt: as their prompts do, or nothing."""

Logits = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class LinearStrategy(Strategy):
    """A weight vector and a bias per label on normalised features; how they are learnt is the method's.

    Args:
        start: zero-shot begins with each label's prompt direction, zeros with no knowledge.
    """

    start: Start = "zero-shot"

    def requires(self) -> frozenset[Need]:
        """Prompts are used by the zero-shot start only."""
        return self.needs if self.start == "zero-shot" else frozenset({"features"})

    def setup(self, context: Context) -> None:
        """Start as the zero-shot classifier, or at zero; see :meth:`Strategy.setup`."""
        self.context = context
        self.weight = torch.zeros(len(context.labels), context.dim, device=context.device)
        self.bias = torch.zeros(len(context.labels), device=context.device)
        if self.start == "zero-shot":
            # Scores are linear in the image here: the identity's scores are the weights.
            identity = torch.eye(context.dim, device=context.device)
            self.weight = context.prompts.score(identity, "embeddings", "difference").T.contiguous()

    def score(self, images: Images) -> torch.Tensor:
        """Logits, float32 (N, C)."""
        return self.logits(normalised(images.features))

    def logits(self, unit: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of normalised features (N, d)."""
        return functional.linear(unit, self.weight, self.bias)

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


@dataclass
class DescendedLinear(LinearStrategy):
    """Linear classifiers that are learnt by mini-batches of gradient descent.

    Args:
        start: zero-shot begins with each label's prompt direction, zeros with no knowledge.
        lr: Learning rate of Adam.
        epochs: Passes over each experience.
        batch_size: Images a step.
        weight_decay: L2 penalty.
    """

    lr: Positive = 1e-3
    epochs: Count = 30
    batch_size: Count = 256
    weight_decay: NonNegative = 1e-4

    def descend(
        self,
        experience: Training,
        columns: Sequence[int],
        loss: Callable[[torch.Tensor, Logits], torch.Tensor],
        generator: torch.Generator,
    ) -> None:
        """Minimise a loss over some labels' weights and biases.

        Args:
            experience: Whose images are passed over.
            columns: The labels that are trained. They are trained alone, so that weight decay leaves the
                others as they are.
            loss: Scalar loss, given the indices of a batch, (b,), and how to make normalised features
                (n, d) into logits of the trained labels, (n, len(columns)).
            generator: Source of the order of images.
        """
        trained = list(columns)
        weight = torch.nn.Parameter(self.weight[trained])
        bias = torch.nn.Parameter(self.bias[trained])
        train(
            [weight, bias],
            lambda batch: loss(batch, lambda unit: functional.linear(unit, weight, bias)),
            len(experience),
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
            generator=generator,
        )
        self.weight[trained], self.bias[trained] = weight.data, bias.data


@dataclass
class RehearsedLinear(DescendedLinear):
    """Linear classifiers that are learnt with a patient-balanced memory of past features.

    Args:
        start: zero-shot begins with each label's prompt direction, zeros with no knowledge.
        lr: Learning rate of Adam.
        epochs: Passes over each experience.
        batch_size: New images a step.
        weight_decay: L2 penalty.
        capacity: Most past samples that are kept.
    """

    keeps_samples: ClassVar[bool] = True
    also_kept: ClassVar[tuple[str, ...]] = ()
    """What else than targets is kept of each label of a sample."""

    capacity: Count = 200

    def setup(self, context: Context) -> None:
        """Begin with an empty memory; see :meth:`Strategy.setup`."""
        super().setup(context)
        features = torch.zeros(0, context.dim, device=context.device)
        per_label = torch.zeros(0, len(context.labels), device=context.device)
        kept = {"features": features, **dict.fromkeys(("targets", *self.also_kept), per_label)}
        self.memory = SampleMemory(self.capacity, context.seed, **kept)

    def remembered(self) -> list[int]:
        """Columns of the labels that are known of a sample in the memory."""
        columns: list[int] = (~self.memory["targets"].isnan()).any(0).nonzero().flatten().tolist()
        return columns

    def state_dict(self) -> State:
        """Weights, biases and the memory."""
        return {**super().state_dict(), **self.memory.state()}

    def load_state_dict(self, state: State) -> None:
        """Take up weights, biases and the memory."""
        super().load_state_dict(state)
        self.memory.load(state)
