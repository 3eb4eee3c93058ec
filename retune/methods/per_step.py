"""Modules learnt anew in each experience, or one carried through the stream, and what each of them observed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Literal, TypeVar

import torch
from torch import nn

from retune.methods.adaptors import count_parameters, load_prefixed, prefixed
from retune.methods.strategy import State

M = TypeVar("M", bound=nn.Module)
Through = Literal["per-step", "shared"]


class PerStep(Generic[M]):
    """Modules in the order in which they were begun, each with the columns of the labels it observed.

    Args:
        name: What a module is, before its number in the state.
        through: per-step, a new module in every experience, and a label's score is the mean over those
            that observed it; shared, one module that scores every label.
        make: Makes a module whose weights nobody relies on, for a state to be loaded into.
    """

    def __init__(self, name: str, through: Through, make: Callable[[], M]) -> None:
        self.name, self.through, self.make = name, through, make
        self.modules: list[M] = []
        self.observed: list[list[int]] = []

    def begin(self, observed: Iterable[int], make: Callable[[], M], *, copy: bool = False) -> M:
        """The module to train in an experience: a new one, or the one there is.

        Args:
            observed: Columns of the labels that the experience observes.
            make: Makes a new module, to be trained.
            copy: Whether a new module takes over the weights of the one before it.
        """
        if self.through == "per-step" or not self.modules:
            self.modules.append(make())
            self.observed.append([])
            if copy and len(self.modules) > 1:
                self.modules[-1].load_state_dict(self.modules[-2].state_dict())
        self.observed[-1] = sorted({*self.observed[-1], *observed})
        return self.modules[-1]

    def score(
        self,
        logits: Callable[[M, Sequence[int]], torch.Tensor],
        otherwise: Callable[[], torch.Tensor],
        n_labels: int,
    ) -> torch.Tensor:
        """Scores of every label, (N, C).

        Args:
            logits: Of a module and some columns, (N, len(columns)).
            otherwise: Scores (N, C) for the labels that no module observed; asked only where there are such.
            n_labels: C.
        """
        everything = range(n_labels)
        if self.modules and self.through == "shared":
            return logits(self.modules[0], everything)
        scores = otherwise()
        total, count = torch.zeros_like(scores), scores.new_zeros(n_labels)
        for module, observed in zip(self.modules, self.observed, strict=True):
            total[:, observed] += logits(module, observed)
            count[observed] += 1
        return torch.where(count > 0, total / count.clamp(min=1), scores)

    def trainable_parameters(self) -> int:
        """Over all modules begun so far."""
        return sum(map(count_parameters, self.modules))

    def state_dict(self) -> State:
        """Every module's weights, and which labels it observed."""
        weights = (prefixed(f"{self.name}.{k}", module) for k, module in enumerate(self.modules))
        return {"observed": self.observed, **{key: v for part in weights for key, v in part.items()}}

    def load_state_dict(self, state: State) -> None:
        """Take up what :meth:`state_dict` gave, among other keys or not."""
        self.observed = [list(columns) for columns in state["observed"]]
        self.modules = [self.make() for _ in self.observed]
        for k, module in enumerate(self.modules):
            load_prefixed(f"{self.name}.{k}", module, state)
