"""What the checks of a strategy share: the strategy, and when two tensors are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from retune.check.lab import Lab, quick_settings
from retune.methods.given import Training
from retune.methods.strategy import Strategy
from retune.plugins import is_file
from retune.runner.resolve import find_strategy
from retune.settings import make


@dataclass(frozen=True)
class Subject:
    """A strategy to check.

    Args:
        lab: Where it works.
        cls: Its class.
        name: Its name where it is registered; None for a file or a class.
        preset: Settings that its name asks for.
        given: Other settings, which win.
    """

    lab: Lab
    cls: type[Strategy]
    name: str | None = None
    preset: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, strategy: str | type[Strategy], settings: Mapping[str, Any], lab: Lab | None = None
    ) -> Subject:
        """Look a strategy up; its file is read once.

        Args:
            strategy: Its name as on the command line, or its class.
            settings: Others than the default ones.
            lab: Where it is to work; a new one where left out.

        Raises:
            UserError: If there is no such strategy, or it cannot be imported.
        """
        if not isinstance(strategy, str):
            return cls(lab or Lab(), strategy, given=settings)
        # Before the lab is set up, which takes a while.
        found, plain, preset = find_strategy(strategy)
        name = None if is_file(plain) else plain.rpartition("/")[2]
        return cls(lab or Lab(), found, name, preset, settings)

    def unprepared(self, *, quick: bool = True) -> Strategy:
        """One before its setup.

        Args:
            quick: Whether it learns in one epoch of small batches, where it has such settings.
        """
        fast = quick_settings(self.cls) if quick else {}
        owner = getattr(self.cls, "name", self.cls.__name__)
        return make(self.cls, {**self.preset, **fast, **self.given}, owner=f"strategy {owner}")

    def new(self, *, quick: bool = True) -> Strategy:
        """One that is set up and has seen nothing."""
        return self.lab.prepared(self.unprepared(quick=quick))

    def taught(self) -> Strategy:
        """One that has learnt from all of the made-up stream."""
        strategy = self.new()
        self.lab.fit(strategy, self.lab.stream(strategy))
        return strategy

    def everything(self, strategy: Strategy, n: int, seed: int = 1) -> Training:
        """An experience that shows all labels of n images."""
        return self.lab.experience(strategy, n, range(len(self.lab.labels)), seed)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal to the bit, NaN and NaN included."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


def tensors(state: Any) -> Iterator[torch.Tensor]:
    """The tensors of a nested state."""
    if isinstance(state, torch.Tensor):
        yield state
    elif isinstance(state, (dict, list, tuple)):
        for value in state.values() if isinstance(state, dict) else state:
            yield from tensors(value)


def same_state(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two states hold the same tensors to the bit, and the same JSON values."""

    def alike(a: Any, b: Any) -> bool:
        both = isinstance(a, torch.Tensor), isinstance(b, torch.Tensor)
        return same(a.detach(), b.detach()) if all(both) else not any(both) and bool(a == b)

    return one.keys() == other.keys() and all(alike(value, other[key]) for key, value in one.items())
