"""What all of Avalanche's strategies share when they run in our runner."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from retune.avalanche_bridge.benchmark import as_dataset, as_experience
from retune.avalanche_bridge.names import PREFIX
from retune.avalanche_bridge.quiet import quietly
from retune.avalanche_bridge.state import load_optimizer, optimizer_state
from retune.methods.adaptors import count_parameters, load_prefixed, normalised, prefixed
from retune.methods.given import Context, Images, Need, Training
from retune.methods.linear import Head, HeadKind, Start
from retune.methods.losses import masked_bce
from retune.methods.strategy import State, Strategy
from retune.methods.training import Optimizer, isolated
from retune.settings import Count, Positive

GENERAL = """
Everything of the method itself, its loop, penalty and memory, is Avalanche's code (Lomonaco et al., CVPR
workshops 2021). Ours are the head that it trains, on features of length sqrt(d); the loss, binary
cross-entropy over the known labels, in the method's own passes too; the seeds; and the state: tensors by
name, remembered images as features. Settings bear Avalanche's names; defaults are those of its classes or,
where it has none, of its examples. Nothing is tuned, but for what a preset says.
"""
SHARED = """
    head: linear, each label on its own; trunk, an mlp d-2d-d before it that all labels share and that begins as
        the identity.
    start: zero-shot begins with each label's prompt direction, zeros with no knowledge.
    optimizer: adam or sgd; as Avalanche has it, its averages live on through the stream.
    lr: Learning rate.
    epochs: Passes over each experience.
    batch_size: Images a step.
"""


@dataclass
class Bridged(Strategy):
    """One of Avalanche's strategies; see its subclasses."""

    head: HeadKind = "linear"
    start: Start = "zero-shot"
    optimizer: Optimizer = "adam"
    lr: Positive = 1e-3
    epochs: Count = 10
    batch_size: Count = 64

    # What Avalanche's own objects keep beside the head: averages, importances, the head of earlier steps.
    statistics: ClassVar[frozenset[str]] = frozenset(
        {"agent", "saved_params", "importances", "ewc_data", "syn_data", "params", "importance"}
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"trunk": {"head": "trunk"}}

    method: ClassVar[str]
    """The name of Avalanche's class."""

    def __init_subclass__(cls) -> None:
        cls.method, cls.name = cls.__name__, PREFIX + cls.__name__
        own, _, arguments = inspect.cleandoc(cls.__doc__ or "").partition("\nArgs:")
        cls.__doc__ = f"{own.rstrip()}\n{GENERAL}\nArgs:{arguments}{SHARED}"

    def requires(self) -> frozenset[Need]:
        """Prompts are used by the zero-shot start only."""
        return self.needs if self.start == "zero-shot" else frozenset({"features"})

    def setup(self, context: Context) -> None:
        """Make the head, and Avalanche's strategy around it; see :meth:`Strategy.setup`."""
        self.context = context
        self.model = Head(self.head, context.dim, len(context.labels)).to(context.device)
        self.model.start(self.start, context)
        with quietly(), isolated(context.seed):
            self.agent = self._agent()
            # Else the first training would throw away averages that were taken up from a checkpoint.
            self.agent.make_optimizer(reset_optimizer_state=True)

    def fit(self, experience: Training) -> None:
        """Let Avalanche train on this experience.

        Images of which no observed label is known teach nothing; they are left out, for MAS takes a loss of
        exactly 0 for a missing one.
        """
        known = ~experience.targets.isnan().all(dim=1)
        if not known.any():
            return
        # Avalanche's loaders collate on the CPU, and move batches themselves.
        features = normalised(experience.images.features)[known].cpu()
        dataset = as_dataset(features, experience.targets[known].cpu())
        with quietly(), isolated(experience.seed):
            self.prepare(dataset, experience.annotated)
            self.agent.train(as_experience(dataset), eval_streams=[])
        if self.keeps_samples:
            # A subset of Avalanche's holds on to all of what it is of: what is remembered is copied out.
            self._take_up(self.state_dict())

    @torch.no_grad()
    def score(self, images: Images) -> torch.Tensor:
        """Logits, float32 (N, C)."""
        scores: torch.Tensor = self.model(normalised(images.features))
        return scores

    def state_dict(self) -> State:
        """The head, the optimiser's averages, and what Avalanche's plugin has learnt or kept."""
        # Loaders draw a seed from the global generator even where they do not shuffle.
        with quietly(), isolated(0):
            learnt = dict(self.learnt())
        return {
            "experiences": self.agent.clock.train_exp_counter,
            **prefixed("model", self.model),
            **optimizer_state(self.agent.optimizer),
            **learnt,
        }

    def load_state_dict(self, state: State) -> None:
        """Rebuild all of it."""
        load_prefixed("model", self.model, state)
        load_optimizer(self.agent.optimizer, state)
        self.agent.clock.train_exp_counter = state["experiences"]
        self._take_up(state)

    def trainable_parameters(self) -> int:
        """Of the head."""
        return count_parameters(self.model)

    @classmethod
    def parameter_counts(cls, dim: int, n_labels: int) -> Mapping[str, int]:
        """Of both heads."""
        return Head.parameter_counts(dim, n_labels)

    # What a method adds.

    @property
    def plugin(self) -> Any:
        """Avalanche's plugin that is the method; it comes before those of evaluation and clock."""
        return self.agent.plugins[0]

    def own_settings(self) -> dict[str, Any]:
        """The method's settings, under the names that Avalanche's class has for them."""
        shared = {field.name for field in dataclasses.fields(Bridged)}
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in shared}

    def make(self, **common: Any) -> Any:
        """Avalanche's strategy."""
        from avalanche.training import supervised

        return getattr(supervised, self.method)(**common, **self.own_settings())

    def prepare(self, dataset: Any, observed: tuple[int, ...]) -> None:
        """Whatever the method wants to find before it trains on an experience."""

    def learnt(self) -> Iterator[tuple[str, Any]]:
        """Names and values, for :meth:`state_dict`, of what the plugin has learnt or kept."""
        yield from ()

    def take_up(self, state: State) -> None:
        """Give the plugin back what :meth:`learnt` told."""

    def _take_up(self, state: State) -> None:
        with quietly(), isolated(0):
            self.take_up(state)

    def _agent(self) -> Any:
        from avalanche.training.plugins import EvaluationPlugin

        made = torch.optim.Adam if self.optimizer == "adam" else torch.optim.SGD
        return self.make(
            model=self.model,
            optimizer=made(self.model.parameters(), lr=self.lr),
            criterion=masked_bce,
            train_mb_size=self.batch_size,
            train_epochs=self.epochs,
            device=self.context.device,
            evaluator=EvaluationPlugin(loggers=[]),
        )
