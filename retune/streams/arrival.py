"""Scenarios in which labels arrive over time, so that experiences hide some, and their order matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import factorial
from typing import Annotated, Final, TypeVar

import numpy as np
from annotated_types import Ge, Le

from retune.errors import BadSetting
from retune.settings import LATER
from retune.streams.stream import Hidden, Scenario

T = TypeVar("T")

MOST_ORDERS: Final = 1000
"""More than anyone runs."""
TaskOrder = Annotated[int, Ge(1), Le(MOST_ORDERS)]


@dataclass(frozen=True)
class LabelArrival(Scenario):
    """A scenario whose experiences observe labels of their own and hide others.

    Args:
        hidden: What a label that an experience does not observe looks like: masked is unknown; absent reads as 0, as
            much of the field has it.
        task_order: Which order the label groups or tasks come in: 1 is the scenario's own, and every other number has
            one of its own, drawn at random.
    """

    hidden: Hidden = field(default="masked", kw_only=True, metadata=LATER)
    task_order: TaskOrder = field(default=1, kw_only=True, metadata=LATER)

    def in_order(self, groups: Sequence[T]) -> list[T]:
        """Label groups or tasks in the order in which they come.

        The order number k is the k-th that differs from all before it, of permutations drawn with seed 0: it is the same
        on all data, with every seed of the run, and however many orders are compared.

        Raises:
            BadSetting: If there are not as many orders.
        """
        n = len(groups)
        if self.task_order > factorial(n):
            raise BadSetting(
                f"{n} groups of labels have {factorial(n)} orders, and number {self.task_order} is asked for",
                where=f"scenario {self.name}, setting task_order",
                fix=f"give 1 to {factorial(n)}",
            )
        rng, orders = np.random.default_rng(0), {tuple(range(n)): None}
        while len(orders) < self.task_order:
            orders[tuple(rng.permutation(n).tolist())] = None
        return [groups[k] for k in list(orders)[-1]]
