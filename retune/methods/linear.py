"""One linear classifier per label on frozen features, and what many methods build on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn
from torch.nn.functional import linear

from retune.methods.adaptors import adaptor, count_parameters, normalised
from retune.methods.given import Context, Images, Need, Training
from retune.methods.losses import masked_bce
from retune.methods.memory import SampleMemory
from retune.methods.strategy import State, Strategy
from retune.methods.training import train
from retune.settings import LATER, Count, NonNegative, Positive

HeadKind = Literal["linear", "trunk"]
"""Each label on its own, or behind a small mlp that all of them share."""

Start = Literal["zero-shot", "zeros"]
"""What labels score before they are learnt: as their prompts do, or nothing."""

Logits = Callable[[torch.Tensor], torch.Tensor]


class LinearHead(nn.Module):
    """One weight vector and one bias per label, zero at first.

    Args:
        dim: Dimension d of the features.
        n_labels: Number of labels C.
    """

    def __init__(self, dim: int, n_labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_labels, dim))
        self.bias = nn.Parameter(torch.zeros(n_labels))

    def start(self, where: Start, context: Context) -> None:
        """Begin as the zero-shot classifier, or stay at zero."""
        if where == "zero-shot":
            # Scores are linear in the image here: the identity's scores are the weights.
            identity = torch.eye(context.dim, device=context.device)
            self.weight.data = context.prompts.score(identity, "embeddings", "difference").T.contiguous()

    def forward(self, unit: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of normalised features (N, d)."""
        return linear(unit, self.weight, self.bias)

    @contextmanager
    def trained(self, columns: Sequence[int]) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
        """Some labels' weights and biases, to be trained: alone, so that weight decay leaves the others."""
        index = list(columns)
        weight, bias = (nn.Parameter(values.data[index]) for values in (self.weight, self.bias))
        yield weight, bias
        self.weight.data[index], self.bias.data[index] = weight.data, bias.data


class Head(LinearHead):
    """Logits W t(x) + b, with nothing that labels share, or a trunk t that all of them share.

    Args:
        kind: linear, t(x) = x; trunk, t is Linear(d, 2d), ReLU, Linear(2d, d), which begins as the identity, so
            that no score differs before it is trained.
        dim: Dimension d of the features.
        n_labels: Number of labels C.
    """

    def __init__(self, kind: HeadKind, dim: int, n_labels: int) -> None:
        super().__init__(dim, n_labels)
        self.trunk = nn.Identity() if kind == "linear" else adaptor("mlp", dim, init="identity")

    def forward(self, unit: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of normalised features (N, d)."""
        return super().forward(self.trunk(unit))

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> dict[str, int]:
        """Of every kind, without allocating one."""
        with torch.device("meta"):
            return {kind: count_parameters(cls(kind, dim, n_labels)) for kind in get_args(HeadKind)}


class LabelHeads(LinearHead):
    """A logistic regression per label on features that somebody else makes; a label has none until observed."""

    seen: torch.Tensor

    def __init__(self, dim: int, n_labels: int) -> None:
        super().__init__(dim, n_labels)
        self.register_buffer("seen", torch.zeros(n_labels, dtype=torch.bool))

    def scores(self, features: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
        """Logits of the labels observed so far, and other scores for the others, (N, C).

        Args:
            features: (N, d), of any length.
            otherwise: Scores (N, C) to give for labels that no head has learnt.
        """
        return torch.where(self.seen, self(normalised(features)), otherwise)

    @contextmanager
    def trained(self, columns: Sequence[int]) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
        """Some labels' weights and biases, to be trained; from then on they count as learnt."""
        with super().trained(columns) as pair:
            yield pair
        self.seen[list(columns)] = True

    def learn(
        self,
        features: torch.Tensor,
        targets: torch.Tensor,
        observed: tuple[int, ...],
        *,
        epochs: int,
        batch_size: int,
        lr: float,
        generator: torch.Generator,
    ) -> None:
        """Train the observed labels' heads and leave the others as they are.

        Args:
            features: (n, d), of any length; no gradient goes to them.
            targets: (n, C); NaN where unknown.
            observed: Columns to train.
            epochs: Passes over the features.
            batch_size: Samples a step.
            lr: Learning rate of Adam.
            generator: Source of the order of samples.
        """
        unit, wanted = normalised(features.detach()), targets[:, list(observed)]
        with self.trained(observed) as (weight, bias):
            train(
                [weight, bias], lambda batch: masked_bce(linear(unit[batch], weight, bias), wanted[batch]),
                len(unit), epochs=epochs, batch_size=batch_size, lr=lr, generator=generator,
            )  # fmt: skip


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
        self.linear = self.made_head()
        self.linear.start(self.start, context)

    def made_head(self) -> Head:
        """A head that knows nothing yet."""
        return Head("linear", self.context.dim, len(self.context.labels)).to(self.context.device)

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        """Logits, float32 (N, C)."""
        return self.logits(normalised(images.features))

    @torch.no_grad()
    def logits(self, unit: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of normalised features (N, d)."""
        found: torch.Tensor = self.linear(unit)
        return found

    def state_dict(self) -> State:
        """Weights (C, d) and biases (C,), and the trunk's where there is one."""
        return dict(self.linear.state_dict())

    def load_state_dict(self, state: State) -> None:
        """Take up weights and biases."""
        self.linear.load_state_dict({key: state[key] for key in self.linear.state_dict()})

    def trainable_parameters(self) -> int:
        """C (d + 1), and the trunk's."""
        return count_parameters(self.linear)

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """One weight vector and one bias per label."""
        return {"all labels": n_labels * (dim + 1)}


@dataclass
class TrunkOrLinear(LinearStrategy):
    """Linear classifiers that can stand on a trunk: only what labels share can be forgotten for another's sake.

    Args:
        start: zero-shot begins with each label's prompt direction, zeros with no knowledge.
        head: linear, each label on its own; trunk, an mlp d-2d-d before it that all labels share and that begins as
            the identity. Once it is trained, scores of labels not yet learnt move with it.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"trunk": {"head": "trunk"}}

    head: HeadKind = field(default="linear", metadata=LATER)

    def made_head(self) -> Head:
        """A head of the kind that is asked for."""
        return Head(self.head, self.context.dim, len(self.context.labels)).to(self.context.device)

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """Of both heads."""
        return Head.parameter_counts(dim, n_labels)


@dataclass
class DescendedLinear(TrunkOrLinear):
    """Linear classifiers that are learnt by mini-batches of gradient descent.

    Args:
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
        """Minimise a loss over some labels' weights and biases, and over the trunk where there is one.

        Args:
            experience: Whose images are passed over.
            columns: The labels that are trained.
            loss: Scalar loss, given the indices of a batch, (b,), and how to make normalised features
                (n, d) into logits of the trained labels, (n, len(columns)).
            generator: Source of the order of images.
        """
        trunk = self.linear.trunk
        with self.linear.trained(columns) as (weight, bias):
            train(
                [weight, bias, *trunk.parameters()],
                lambda batch: loss(batch, lambda unit: linear(trunk(unit), weight, bias)),
                len(experience), epochs=self.epochs, batch_size=self.batch_size, lr=self.lr,
                weight_decay=self.weight_decay, generator=generator,
            )  # fmt: skip


@dataclass
class RehearsedLinear(DescendedLinear):
    """Linear classifiers that are learnt with a patient-balanced memory of past features.

    Args:
        batch_size: New images a step.
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
