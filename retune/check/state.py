"""Checks of what a strategy keeps: of what it learnt, and of past images."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from retune.check.answers import is_json
from retune.check.checks import require
from retune.check.held import Leash, rows, weight
from retune.check.subject import Subject, same, same_state, tensors
from retune.methods.memory import PREFIX, Stored, metered
from retune.methods.strategy import State, Strategy
from retune.runner.checkpoint import Checkpoint

LARGEST: Final = 60 * 2**20
"""Bytes of the largest state."""

ABOUT: Final[Mapping[str, Callable[[Strategy], Any]]] = {
    "trainable_parameters": lambda strategy: strategy.trainable_parameters(),
    "diagnostics": lambda strategy: dict(strategy.diagnostics()),
    "kept samples": lambda strategy: metered(strategy.state_dict()),
}
"""What else than scores must be as before after resuming."""


def state_round_trips(subject: Subject) -> None:
    """Its state is tensors and JSON by name, and comes back from a checkpoint as it was."""
    strategy, again = subject.taught(), subject.new()
    state = strategy.state_dict()
    require(isinstance(state, Mapping), f"state_dict gives {type(state).__name__}, not a dictionary")
    for key, value in state.items():
        require(isinstance(key, str), f"key {key!r} of state_dict is no text")
        good = isinstance(value, torch.Tensor) or is_json(value)
        require(good, f"'{key}' of state_dict is neither a tensor nor JSON, or JSON would change it")
    found = _stored(state)
    require(same_state(found, state), "it differs after it was written and read")
    again.load_state_dict(found)
    require(same_state(again.state_dict(), state), "state_dict after load_state_dict gives another state")


def resumed_equals_uninterrupted(subject: Subject) -> None:
    """Stopped after an experience and resumed from its state, it ends as if never stopped."""
    lab, whole, resumed = subject.lab, subject.new(), subject.new()
    *begun, last = lab.stream(whole)
    lab.fit(whole, begun)
    # A copy: what goes on must not change what was written.
    resumed.load_state_dict(copy.deepcopy(dict(whole.state_dict())))
    require(same(lab.score(resumed), lab.score(whole)), "it scores differently right after resuming")
    require(_same_maps(lab.dense(resumed), lab.dense(whole)), "dense gives other maps right after resuming")
    ends = [lab.scores_after(strategy, [last]) for strategy in (resumed, whole)]
    require(same(*ends), "it scores differently after the experience that follows")
    for what, ask in ABOUT.items():
        require(ask(resumed) == ask(whole), f"{what} differ after resuming")


def state_is_what_it_learnt(subject: Subject) -> None:
    """Its state holds no frozen weights and no prompts, and is small."""
    state = list(tensors(subject.taught().state_dict()))
    size = sum(t.numel() * t.element_size() for t in state)
    require(size < LARGEST, f"the state takes {size / 2**20:.0f} MB after 70 images")
    module = subject.lab.backbone.text_path().module
    frozen = [*module.parameters(), *module.buffers(), subject.lab.prompts[True].positive]
    places = {t.untyped_storage().data_ptr() for t in frozen}
    shared = any(t.untyped_storage().data_ptr() in places for t in state)
    copied = any(same(t, f) for t in state for f in frozen if f.numel() > 1000)
    require(
        not shared and not copied, "the state holds weights or prompts of the backbone, which never change"
    )


def past_images_are_out_of_reach(subject: Subject) -> None:
    """Once fit, score or dense has returned, its images are neither read again nor kept in memory."""
    lab, strategy = subject.lab, subject.new()
    if strategy.sees_everything:  # what it is given is given for good
        return
    leashes = []
    for part in lab.stream(strategy):
        with Leash() as leash:
            lab.fit(strategy, [leash.training(part)])
        with Leash() as other:
            lab.score(strategy, other.images(lab.tests(strategy)))
        with Leash() as third:
            lab.dense(strategy, third.images(lab.tests(strategy)))
        leashes += [leash, other, third]
    kept = sum(leash.kept(strategy.state_dict()) for leash in leashes)
    require(not kept, f"{kept} of the tensors it was lent are kept, and not as '{PREFIX}' in its state")


def memory_declared_equals_memory_used(subject: Subject) -> None:
    """What it keeps of single images is declared, stands under 'memory.' in its state, and nowhere else."""
    strategy = _learnt(subject, MANY)  # and caches that depend on no single image are full now
    kept = metered(strategy.state_dict())
    if strategy.keeps_samples:
        require(
            kept != Stored(), f"declares keeps_samples, and no tensor in its state is called '{PREFIX}...'"
        )
    else:
        require(kept == Stored(), f"keeps '{PREFIX}...' in its state without declaring keeps_samples")
    few, many = (_sizes(_learnt(subject, n)) for n in (FEW, MANY))
    more = {of: many[of] - few[of] for of in few}
    hidden = max(more["in memory"] - more["declared"], more["else in its state"])
    # Less than a byte for an image tells nothing of it: a count of batches may grow.
    require(hidden < MANY - FEW, f"{MANY - FEW} more images make it keep {hidden:,} bytes more than declared")
    if not strategy.keeps_samples and "features" in strategy.requires():
        lent = subject.everything(strategy, MANY).images.features
        found = any(_shows(vectors, lent) for vectors in rows(_roots(strategy), lent.shape[1]))
        require(not found, "keeps vectors of single images without declaring it")


FEW, MANY = 16, 32


def _learnt(subject: Subject, n: int) -> Strategy:
    strategy = subject.new()
    subject.lab.fit(strategy, [subject.everything(strategy, n)])
    return strategy


def _sizes(strategy: Strategy) -> dict[str, int]:
    """Bytes of what can be reached from a strategy, of what it declares, and of the rest of its state."""
    state = strategy.state_dict()
    return {
        "in memory": weight(_roots(strategy)),
        "declared": metered(state).bytes,
        "else in its state": weight([{k: v for k, v in state.items() if not k.startswith(PREFIX)}]),
    }


def _roots(strategy: Strategy) -> list[Any]:
    """A strategy, and what its classes and their modules hold, where samples could be hidden as well."""
    own = [cls for cls in type(strategy).__mro__ if issubclass(cls, Strategy) and cls is not Strategy]
    modules = [vars(sys.modules[cls.__module__]) for cls in own if cls.__module__ in sys.modules]
    return [strategy, *(value for names in (*map(vars, own), *modules) for value in names.values())]


def _shows(vectors: torch.Tensor, lent: torch.Tensor) -> bool:
    """Whether one of some vectors points where one of the images lent does."""
    cosines = torch.nn.functional.normalize(vectors) @ torch.nn.functional.normalize(lent).T
    return bool((cosines > 1 - 1e-5).any())


def _stored(state: Mapping[str, Any]) -> State:
    """A state after it was written and read."""
    Checkpoint("id", torch.zeros(1, 1, 1), dict(state), {}).write(Path())
    found = Checkpoint.read(Path(), "id")
    return {} if found is None else found.state


def _same_maps(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return same(one, other)
    return type(one) is type(other)
