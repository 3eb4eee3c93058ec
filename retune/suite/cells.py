"""A cell of a suite: one run that is wanted, and one that is finished."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from retune.results.result import Result
    from retune.runner.spec import Spec

THREADS: Final = 1
"""Threads of every run, however many run beside each other: the last bits of a product depend on them."""


@dataclass(frozen=True)
class Finished:
    """One run of a suite whose result is there.

    Args:
        strategy: The strategy's name in tables.
        scenario: Name of the scenario.
        data: Name of the data set, or several with commas between.
        backbone: Name of the backbone.
        order: Order of the labels; ``""`` where the scenario's own is taken.
        seed: Of every random draw.
        folder: Holds ``result.json`` and ``scores.safetensors``.
    """

    strategy: str
    scenario: str
    data: str
    backbone: str
    order: str
    seed: int
    folder: Path

    @cached_property
    def result(self) -> Result:
        """The result, read once.

        Raises:
            UserError: If it is not there or not a result.
        """
        from retune.results.result import Result

        return Result.read(self.folder)


@dataclass(frozen=True)
class Cell:
    """One run that a suite wants.

    Args:
        strategy: The strategy's name in tables.
        scenario: Name of the scenario.
        data: Name of the data set, or several with commas between.
        backbone: Name of the backbone.
        order: Order of the labels; ``""`` where the scenario's own is taken.
        spec: What is run.
    """

    strategy: str
    scenario: str
    data: str
    backbone: str
    order: str
    spec: Spec

    @property
    def name(self) -> str:
        """All of it in a line."""
        order = f", {self.order} order" if self.order else ""
        return (
            f"{self.strategy} on {self.data}, {self.scenario}{order}, {self.backbone}, seed {self.spec.seed}"
        )

    def finished(self, folder: Path) -> Finished:
        """The cell with its result in a folder."""
        return Finished(
            self.strategy, self.scenario, self.data, self.backbone, self.order, self.spec.seed, folder
        )


def command(spec: Spec, out: Path | None = None) -> str:
    """The command line that does a run alone, to the same bits.

    Args:
        spec: The run.
        out: Its folder.
    """
    words = spec.words() + (["--out", str(out)] if out else [])
    return f"OMP_NUM_THREADS={THREADS} {shlex.join(words)}"
