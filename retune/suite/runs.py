"""A run of a suite: one that is wanted, and one that is finished."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from retune.runner.spec import DEFAULTS

if TYPE_CHECKING:
    from retune.results.result import Result
    from retune.runner.spec import Spec

THREADS: Final = 1
"""Threads of every run, however many run beside each other: the last bits of a product depend on them."""


@dataclass(frozen=True)
class Named:
    """A run as tables call it.

    Args:
        strategy: The strategy's name in tables.
        scenario: Name of the scenario.
        data: Name of the data set, or several with commas between.
        backbone: Name of the backbone.
        order: Name of the order of the labels, or number of the order of tasks; ``""`` where a suite asks for none.
    """

    strategy: str
    scenario: str
    data: str
    backbone: str
    order: str


@dataclass(frozen=True)
class Finished(Named):
    """A run whose result is there.

    Args:
        seed: Of every random draw.
        folder: Holds ``result.json`` and ``scores.safetensors``.
        metrics: Of one's own, beside those that are installed.
    """

    seed: int
    folder: Path
    metrics: tuple[str, ...] = ()

    @cached_property
    def result(self) -> Result:
        """The result, read once.

        Raises:
            UserError: If it is not there or not a result.
        """
        from retune.results.own import with_own
        from retune.results.result import Result

        return with_own(Result.read(self.folder), self.folder, self.metrics)


@dataclass(frozen=True)
class Wanted(Named):
    """A run that a suite wants.

    Args:
        spec: What is run.
    """

    spec: Spec

    @property
    def name(self) -> str:
        """All of it in a line."""
        order = f", {order_words(self.order)}" if self.order else ""
        return (
            f"{self.strategy} on {self.data}, {self.scenario}{order}, {self.backbone}, seed {self.spec.seed}"
        )

    def command(self, folder: Path | None = None) -> str:
        """The command line that does the run alone, to the same bits, in a folder of its own or this one."""
        words = self.spec.words() + (["--out", str(folder)] if folder else [])
        return f"OMP_NUM_THREADS={THREADS} {shlex.join(words)}"

    def finished(self, folder: Path) -> Finished:
        """The run with its result in a folder."""
        named = (self.strategy, self.scenario, self.data, self.backbone, self.order)
        return Finished(*named, self.spec.seed, folder, tuple(self.spec.metrics))


def order_words(order: str) -> str:
    """An order in words: a task order has a number, a label order a name."""
    return f"task order {order}" if order.isdigit() else f"{order} order"


def prompts_words(banks: Iterable[str]) -> str:
    """The prompt banks of some runs, as the end of a heading; nothing where there is but the default one."""
    names = sorted(set(banks))
    return f", prompts {' and '.join(names)}" if set(names) - {DEFAULTS["prompts"]} else ""


def in_a_line(error: BaseException) -> str:
    """What a plugin raised, with its kind."""
    return " ".join(f"{type(error).__name__}: {error}".split())
