"""How much an object holds on to, and whether what it was lent is among it."""

from __future__ import annotations

import gc
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch

from retune.errors import StrategyError
from retune.methods.given import Images, Training
from retune.methods.held import held
from retune.methods.memory import PREFIX
from retune.methods.strategy import State

NUMBER: Final = 8
"""Bytes that a number in a list counts for."""


def weight(roots: list[Any]) -> int:
    """Bytes of all values in what is held: tensors and arrays, texts, and numbers in lists."""
    storages: dict[int, int] = {}
    size = 0
    for item in held(roots):
        if isinstance(item, torch.Tensor):
            if item.device.type != "meta" and item.layout == torch.strided:
                storage = item.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(item, np.ndarray):
            size += item.nbytes if item.base is None else 0
        elif isinstance(item, (str, bytes, bytearray)):
            size += len(item)
        elif isinstance(item, (list, tuple, set, frozenset, deque)):
            size += NUMBER * sum(isinstance(x, (int, float)) for x in item)
        elif isinstance(item, dict):
            size += NUMBER * sum(isinstance(x, (int, float)) for x in item.values())
    return size + sum(storages.values())


def rows(roots: list[Any], width: int) -> Iterator[torch.Tensor]:
    """The vectors of some width among all tensors and arrays that are held, (k, width) each."""
    for item in held(roots):
        if isinstance(item, (torch.Tensor, np.ndarray)) and item.ndim and item.shape[-1] == width:
            values = torch.as_tensor(item).detach()
            if values.is_floating_point() and values.device.type != "meta":
                yield values.reshape(-1, width).float()


@dataclass
class Leash:
    """Lends images, and sees whether they come back.

    Args:
        over: Whether what was lent is not to be read any more.
    """

    over: bool = False
    lent: list[weakref.ref[Any]] = field(default_factory=list)

    def __enter__(self) -> Leash:
        return self

    def __exit__(self, *_: object) -> None:
        self.over = True

    def training(self, part: Training) -> Training:
        """An experience on the leash."""
        targets, patients = (self.noted(t.clone()) for t in (part.targets, part.patients))
        return replace(part, images=self.images(part.images), targets=targets, patients=patients)

    def images(self, images: Images) -> Images:
        """Images on the leash."""
        return Images(images.n, {kind: self._leashed(get) for kind, get in images.sources.items()})

    def kept(self, state: State) -> int:
        """How many of the tensors lent are still in memory, other than as what a state declares.

        Args:
            state: Of the strategy they were lent to.
        """
        declared = {
            value.untyped_storage().data_ptr()
            for key, value in state.items()
            if key.startswith(PREFIX) and isinstance(value, torch.Tensor)
        }

        def alive() -> int:
            storages = [storage for ref in self.lent if (storage := ref()) is not None]
            return sum(storage.data_ptr() not in declared for storage in storages)

        if alive():
            # Slow, and only what stands in a cycle needs it.
            gc.collect()
        return alive()

    def noted(self, values: torch.Tensor) -> torch.Tensor:
        """A tensor that is lent."""
        # The storage, not the tensor: a view, an array or a graph of gradients keeps that alive too.
        self.lent.append(weakref.ref(values.untyped_storage()))
        return values

    def _leashed(self, get: Callable[[], Any]) -> Callable[[], Any]:
        def read() -> Any:
            self.require_open()
            values = get()
            return self.noted(values) if isinstance(values, torch.Tensor) else _Leashed(values, self)

        return read

    def require_open(self) -> None:
        """See that it may still be read.

        Raises:
            StrategyError: If it may not.
        """
        if self.over:
            raise StrategyError("reads images of an earlier call, which are of the past")


@dataclass(frozen=True)
class _Leashed:
    """Rows on a leash; a :class:`retune.methods.given.Lazy`."""

    values: Any
    leash: Leash

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.values.shape
        return shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        self.leash.require_open()
        return self.leash.noted(self.values[index])
