"""Setting a strategy up, letting it learn and asking for its scores, on the images of one stream."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch

from retune.backbones.base import Backbone
from retune.data.dataset import IntArray
from retune.methods.given import Context, Need, Training, training
from retune.methods.strategy import Strategy
from retune.methods.towers import Towers
from retune.prompts import PromptBank
from retune.runner.guard import Guard
from retune.runner.images import Inputs, Lent, embed_prompts
from retune.runner.plan import Plan
from retune.streams.stream import Experience, Stream

IN_TOWERS: Final[frozenset[Need]] = frozenset(
    {"pixels", "text-gradients", "trainable-tower", "prompted-tower"}
)
"""A strategy with one of these needs computes in the backbone's towers while it learns."""

SCORED: Final = 16_384
"""Images scored at a time, so that a method's intermediate results stay small."""


def begin(
    strategy: Strategy,
    backbone: Backbone,
    bank: PromptBank,
    labels: tuple[str, ...],
    *,
    seed: int,
    device: str,
    time_limit: float | None = None,
) -> Guard:
    """Set a strategy up.

    Args:
        strategy: Not used before.
        backbone: The encoder.
        bank: Prompts of every label.
        labels: The C labels.
        seed: The run's.
        device: Where features are.
        time_limit: Seconds that a call of it may take.
    """
    needs = strategy.requires()
    prompts = embed_prompts(bank, backbone, labels, wanted=bool(needs & {"joint", "texts"}))
    context = Context(
        labels,
        backbone.card.dim,
        prompts.to(device),
        seed,
        device=device,
        bank=bank,
        towers=Towers(backbone, needs, device),
    )
    learner = Guard(strategy, time_limit)
    learner.setup(context)
    return learner


def score(learner: Guard, lent: Lent, rows: IntArray, labels: Sequence[str], step: int) -> torch.Tensor:
    """Scores of some images after experience number ``step``, (N, C) on the CPU."""
    parts = []
    for first in range(0, max(1, len(rows)), SCORED):
        with lent.view(rows[first : first + SCORED], learner.strategy.requires()) as images:
            parts.append(learner.score(images, labels, step))
    return torch.cat(parts)


@dataclass(frozen=True)
class Session:
    """What strategies learn from, and what they are asked.

    Args:
        plan: The run.
        inputs: Its images, and the stream without those that could not be read.
        patients_from: The number of its first patient: lower ones are of earlier data.
    """

    plan: Plan
    inputs: Inputs
    patients_from: int = 0

    @property
    def stream(self) -> Stream:
        """The stream of these images."""
        return self.inputs.stream

    def begin(self, strategy: Strategy) -> Guard:
        """Set a strategy up."""
        parts, spec = self.plan.parts, self.plan.spec
        return begin(
            strategy,
            parts.backbone,
            parts.bank,
            self.stream.labels,
            seed=spec.seed,
            device=self.inputs.device,
            time_limit=spec.time_limit,
        )

    def fit(self, learner: Guard, shown: Experience, step: int) -> float:
        """Let a strategy learn from an experience, number ``step`` of the stream; returns its seconds."""
        needs = learner.strategy.requires()
        # Small maps on features lose accuracy in half precision and gain little: towers alone use it.
        autocast = self.plan.parts.backbone.autocast() if needs & IN_TOWERS else nullcontext()
        with self._view(shown, learner.strategy) as seen, autocast:
            start = time.perf_counter()
            learner.fit(seen, step)
            return time.perf_counter() - start

    def score(self, learner: Guard, rows: IntArray, step: int) -> torch.Tensor:
        """Scores of some images after experience number ``step``, (N, C) on the CPU."""
        return score(learner, self.inputs, rows, self.stream.labels, step)

    @contextmanager
    def _view(self, shown: Experience, strategy: Strategy) -> Iterator[Training]:
        """What a strategy sees of an experience; only an upper bound may look at it again later."""
        dataset, rows = self.stream.dataset, shown.rows
        reports = dataset.columns.get("report")
        # A report tells the labels that the stream withholds or flips.
        if self.stream.altered and not strategy.sees_everything:
            reports = None
        told = None if reports is None else tuple(map(str, reports[rows].tolist()))
        with self.inputs.view(rows, strategy.requires(), for_good=strategy.sees_everything) as images:
            yield training(shown, images, self.plan.spec.seed, self.inputs.device, told, self.patients[rows])

    @cached_property
    def patients(self) -> IntArray:
        """A number for each image's patient, (N,)."""
        _, patients = np.unique(self.stream.dataset.patient_id, return_inverse=True)
        return patients.astype(np.int64) + self.patients_from
