"""How many parameters a strategy trained: the numbers that its fit changed, counted rather than believed."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from retune.backbones.base import Backbone
from retune.methods.given import Context
from retune.methods.held import held
from retune.methods.memory import PREFIX
from retune.methods.strategy import State, Strategy
from retune.methods.towers import Towers

LENT: Final = (Context, Towers, Backbone, torch.optim.Optimizer, torch.Generator)
"""What is not the strategy's own, or keeps no parameters: optimisers keep moments and the parameters elsewhere."""

BY_THE_WAY: Final = frozenset({"running_mean", "running_var", "classes_", "optimizer", "_optimizer"})
"""What PyTorch's and scikit-learn's models keep beside their parameters."""

Print = tuple[str, tuple[int, ...], int]
"""Type, shape and a checksum of values: two tensors with one print are equal."""


class Numbers(NamedTuple):
    """A tensor or an array: its print, and where its values lie, which views of one storage share."""

    print: Print
    storage: int
    start: int
    size: int
    room: int


class Trained:
    """Counts what a strategy's ``fit`` changes, over experiences.

    A tensor or an array of real numbers counts whole once its values changed, or it appeared, in a ``fit``; what is
    gone by the end does not. Optimisers, kept samples and what the strategy calls ``statistics`` are left out. What
    was restored from a checkpoint was learnt earlier, so that a resumed run counts like one that was never stopped.

    Args:
        strategy: Whose, after its setup.
    """

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self._but = BY_THE_WAY | strategy.statistics
        self._untrained: set[Print] = set()
        self._learnt: list[Numbers] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """See what changes while it learns, or while it takes up what it learnt."""
        earlier = {numbers.print for numbers in self._learnt}
        self._untrained = {numbers.print for numbers in self._reached()} - earlier
        yield
        self._learnt = [numbers for numbers in self._reached() if numbers.print not in self._untrained]

    def count(self, state: State) -> int:
        """How many numbers it has learnt so far.

        Args:
            state: Of the strategy: what it learnt may stand there in full, or in what it holds on to.
        """
        told = {key: value for key, value in state.items() if not self._passed(key)}
        kept = [numbers for numbers in _numbers(told.values()) if numbers.print not in self._untrained]
        # Samples that are kept stand in the state under names that tell; in the object they may stand under any.
        return _size(kept) if self.strategy.keeps_samples else max(_size(kept), _size(self._learnt))

    def _reached(self) -> list[Numbers]:
        return list(_numbers(held([self.strategy], ends=LENT, but=self._but)))

    def _passed(self, key: str) -> bool:
        parts = re.split("[./]", key)
        return key.startswith(PREFIX) or not self._but.isdisjoint((key, parts[0], parts[-1]))


def says(strategy: Strategy) -> bool:
    """Whether a strategy counts its parameters itself."""
    return type(strategy).trainable_parameters is not Strategy.trainable_parameters


def _numbers(found: Iterable[Any]) -> Iterator[Numbers]:
    for item in found:
        if isinstance(item, torch.Tensor):
            real = item.is_floating_point() or item.is_complex()
            if real and item.numel() and item.device.type != "meta" and item.layout == torch.strided:
                storage = item.untyped_storage()
                room = storage.nbytes() // item.element_size()
                yield Numbers(_print(item), storage.data_ptr(), item.data_ptr(), item.numel(), room)
        elif isinstance(item, np.ndarray) and item.dtype.kind in "fc" and item.size:
            whole = item
            while isinstance(whole.base, np.ndarray):
                whole = whole.base
            yield Numbers(_print(item), whole.ctypes.data, item.ctypes.data, item.size, whole.size)


def _print(values: torch.Tensor | np.ndarray[Any, Any]) -> Print:
    told = f"{values.dtype}", tuple(values.shape)
    if isinstance(values, torch.Tensor):
        flat = values.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
        values = flat.view(torch.uint8).numpy()
    return *told, zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def _size(found: Iterable[Numbers]) -> int:
    """How many numbers there are, those of one storage at most once."""
    rooms: dict[int, int] = {}
    parts: dict[int, dict[int, int]] = {}
    for numbers in found:
        rooms[numbers.storage] = numbers.room
        of = parts.setdefault(numbers.storage, {})
        of[numbers.start] = max(of.get(numbers.start, 0), numbers.size)
    return sum(min(rooms[storage], sum(of.values())) for storage, of in parts.items())
