"""The loop: before training, then experience after experience, with a checkpoint after each."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from retune.backbones.precision import repeatable, threads
from retune.methods.memory import Stored, metered
from retune.methods.strategy import State, Strategy
from retune.metrics import best_f1_threshold
from retune.metrics.binary import Floats
from retune.progress import Progress
from retune.runner.checkpoint import Checkpoint
from retune.runner.energy import Meter
from retune.runner.guard import Guard, attributed
from retune.runner.identity import identification
from retune.runner.images import Inputs, encode
from retune.runner.moments import Moments
from retune.runner.plan import Plan
from retune.runner.search import Found, search, split
from retune.runner.session import IN_TOWERS, Session
from retune.runner.trained import Trained
from retune.streams.stream import Experience, Stream
from retune.system import keep_freed_memory


@dataclass
class Outcome:
    """What learning over a stream gave.

    Args:
        stream: The stream, without images that could not be read.
        scores: Test scores before training and after each experience, float32 or float64 (T+1, N, C).
        thresholds: Per label, frozen when it was first learnt; NaN where it never was.
        strategy: After the last experience; with the settings that a search chose.
        search: What a search of settings found; None where there was none.
        trainable_parameters: How many it trained: what its fit changed, or what it says where that is more.
        diagnostics: What it says of itself.
        search_seconds: Wall time of the search.
        fit_seconds: Wall time of fitting, over interruptions.
        score_seconds: Wall time of scoring.
        encode_seconds: Wall time of decoding and encoding in the process that finished.
        images_encoded: How many images went through the encoder in it.
        unreadable: Identifiers of the images that were left out because they cannot be read.
        threads: In how many threads it learnt and scored.
        stored: The most that was kept of past images after any experience.
        moments: What ``--transfer`` measured; None where nothing was asked.
        identification: Whom what was kept of past images tells; empty where nothing was.
        energy: What the machine counted meanwhile.
    """

    stream: Stream
    scores: torch.Tensor
    thresholds: Floats
    strategy: Strategy
    search: Found | None = None
    trainable_parameters: int = 0
    diagnostics: dict[str, Any] = field(default_factory=dict)
    search_seconds: float = 0.0
    fit_seconds: float = 0.0
    score_seconds: float = 0.0
    encode_seconds: float = 0.0
    images_encoded: int = 0
    unreadable: list[str] = field(default_factory=list)
    threads: int = 1
    stored: Stored = field(default_factory=Stored)
    moments: Moments | None = None
    identification: dict[str, dict[str, float | int]] = field(default_factory=dict)
    energy: Meter = field(default_factory=Meter)

    @contextmanager
    def timed(self, what: Literal["search", "score"]) -> Iterator[None]:
        """Add the wall time of what is done inside."""
        start = time.perf_counter()
        yield
        name = f"{what}_seconds"
        setattr(self, name, getattr(self, name) + time.perf_counter() - start)


def learn(plan: Plan, folder: Path, progress: Progress) -> Outcome:
    """Encode what was never encoded, then fit and score through the stream.

    Args:
        plan: The run.
        folder: Where its checkpoint is.
        progress: Told what is done.
    """
    keep_freed_memory()
    if any(strategy.optimises for strategy in plan.parts.tried):
        # The first optimiser of a process imports this for a second: no method is to be charged for it.
        importlib.import_module("torch._dynamo")
    # On matrices as small as features, threads that wait for each other cost more than they bring.
    wanted = torch.get_num_threads() if plan.parts.needs & IN_TOWERS else 1
    with repeatable(plan.parts.backbone.torch_device):
        if plan.parts.search is not None:
            # What cannot be searched is told before hours of encoding.
            split(plan.stream, plan.spec.seed)
        inputs, moments = encode(plan, progress), Moments.of(plan, progress)
        loop = _Loop(plan, folder, progress, inputs, moments)
        with threads(wanted), loop.outcome.energy.running():
            return loop.run()


class _Loop:
    """One strategy on its way through one stream."""

    def __init__(
        self, plan: Plan, folder: Path, progress: Progress, inputs: Inputs, moments: Moments | None
    ) -> None:
        self.plan, self.folder, self.progress = plan, folder, progress
        self.stream = inputs.stream
        self.inputs, self.session = inputs, Session(plan, inputs)
        self.outcome = Outcome(
            self.stream,
            torch.empty(0, len(self.stream.test), len(self.stream.labels)),
            np.full(len(self.stream.labels), np.nan),
            plan.parts.strategy,
            encode_seconds=inputs.seconds,
            images_encoded=inputs.images_encoded,
            unreadable=inputs.unreadable,
            moments=moments,
        )

    def run(self) -> Outcome:
        outcome, stream = self.outcome, self.stream
        outcome.threads = torch.get_num_threads()
        self.learner = self._resumed() or self._begun()
        for experience in stream.experiences[len(outcome.scores) - 1 :]:
            self.progress("learning", experience.step - 1, len(stream))
            if outcome.strategy.sees_everything and experience.step > 1:
                latest = outcome.scores[-1]
                if outcome.moments:
                    outcome.moments.repeat()
            else:
                latest = self._learnt(experience)
                if outcome.moments:
                    outcome.moments.take(self.learner, experience.step)
            outcome.scores = torch.cat([outcome.scores, latest[None]])
            self._checkpoint()
        self.progress("learning", len(stream), len(stream))
        if outcome.strategy.keeps_samples:
            outcome.identification = identification(
                self.inputs, self.learner.state(), self.plan.spec.replicates
            )
        return outcome

    def _learnt(self, experience: Experience) -> torch.Tensor:
        """Test scores after one more experience, whose labels get their thresholds if they are new."""
        outcome, step = self.outcome, experience.step
        shown = self.stream.joint() if outcome.strategy.sees_everything else experience
        with self.trained.watched():
            outcome.fit_seconds += self.session.fit(self.learner, shown, step)
        with outcome.timed("score"):
            latest = self.session.score(self.learner, self.stream.test, step)
            training_scores = self.session.score(self.learner, shown.rows, step).numpy()
        for c in shown.observed:
            if np.isnan(outcome.thresholds[c]):
                outcome.thresholds[c] = best_f1_threshold(shown.targets[:, c], training_scores[:, c])
        return latest

    def _begun(self) -> Guard:
        """A strategy at the start of the stream, with the settings that a search found best."""
        outcome, candidates = self.outcome, self.plan.parts.search
        if candidates is not None:
            with outcome.timed("search"):
                outcome.search = search(candidates, self.session, self.progress)
            outcome.strategy = candidates.strategies[outcome.search.best]
        learner, self.trained = self.session.begin(outcome.strategy), Trained(outcome.strategy)
        with outcome.timed("score"):
            outcome.scores = self.session.score(learner, self.stream.test, 0)[None]
        if outcome.moments:
            outcome.moments.take(learner, 0)
        if candidates is not None:
            # What was found is not looked for again.
            self._write({}, learner)
        return learner

    def _resumed(self) -> Guard | None:
        """A strategy where its checkpoint left it; None where there is no checkpoint."""
        outcome = self.outcome
        found = Checkpoint.read(self.folder, self.plan.id)
        if found is None or found.scores.shape[1:] != outcome.scores.shape[1:]:
            return None
        outcome.scores = found.scores
        thresholds = [np.nan if t is None else t for t in found.progress["thresholds"]]
        outcome.thresholds = np.array(thresholds, dtype=np.float64)
        for name in ("search_seconds", "fit_seconds", "score_seconds"):
            setattr(outcome, name, found.progress.get(name, 0.0))
        outcome.stored = Stored(**found.progress["stored"])
        outcome.energy.joules |= found.progress.get("energy", {})
        if outcome.moments:
            outcome.moments.load(found.transfer)
        if self.plan.parts.search is not None:
            outcome.search = Found(**found.progress["search"])
            outcome.strategy = self.plan.parts.search.strategies[outcome.search.best]
        learner, self.trained = self.session.begin(outcome.strategy), Trained(outcome.strategy)
        if found.step:
            with self.trained.watched():
                learner.resume(found.state)
            self._ask(learner, found.state)
        return learner

    def _checkpoint(self) -> None:
        """Keep what was learnt; whatever a strategy cannot say of itself is found out now, not at the end."""
        outcome, learner = self.outcome, self.learner
        state = learner.state()
        outcome.stored = outcome.stored.most(metered(state))
        self._ask(learner, state)
        self._write(state, learner)

    def _ask(self, learner: Guard, state: State) -> None:
        """How much it trained, and what it says of itself."""
        # It may know of parameters that a count does not reach; that it trained fewer, its word does not make so.
        counted = self.trained.count(state)
        self.outcome.trainable_parameters = max(learner.trained(), counted)
        self.outcome.diagnostics = learner.diagnostics()

    def _write(self, state: dict[str, Any], learner: Guard) -> None:
        outcome = self.outcome
        outcome.energy.look()
        progress = {
            "thresholds": [None if np.isnan(t) else float(t) for t in outcome.thresholds],
            "search_seconds": outcome.search_seconds,
            "fit_seconds": outcome.fit_seconds,
            "score_seconds": outcome.score_seconds,
            "stored": asdict(outcome.stored),
            "energy": outcome.energy.joules,
            "search": asdict(outcome.search) if outcome.search else None,
        }
        transfer = outcome.moments.state() if outcome.moments else {}
        checkpoint = Checkpoint(self.plan.id, outcome.scores, state, progress, transfer)
        with attributed(learner.strategy, "state_dict"):
            checkpoint.write(self.folder)
