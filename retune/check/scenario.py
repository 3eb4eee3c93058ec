"""The checks of a scenario: what every stream must keep to, shown on a made-up table."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

import numpy as np

from retune.check.checks import Check, ContractReport, Plugin, checked, require
from retune.check.tables import several
from retune.check.world import changed, snapshot
from retune.data.dataset import Dataset
from retune.methods.training import isolated
from retune.progress import Progress
from retune.streams import contract
from retune.streams.stream import Experience, Scenario, Stream


@dataclass(frozen=True)
class Cut(Plugin[Scenario]):
    """A scenario to check."""

    def table(self) -> Dataset:
        """A table that it can cut; a new one at every call, as a scenario could change it."""
        return several([name.strip() for name in self.cls.data.split(",") if name.strip()])

    def stream(self, seed: int = 0) -> Stream:
        """A stream of such a table."""
        return self.made().stream(self.table(), seed)


def cuts(cut: Cut) -> None:
    """It cuts a table into experiences 1, 2, ... and test images, and looks at no picture."""
    stream = cut.stream()
    require(isinstance(stream, Stream), f"gives {type(stream).__name__}, not a Stream")
    steps = [experience.step for experience in stream.experiences]
    require(bool(steps), "the stream has no experience")
    require(steps == list(range(1, len(steps) + 1)), f"its steps are {steps}, not 1, 2, ...")


def says_what_it_is(cut: Cut) -> None:
    """It has a name, and a published stream says where it comes from and which data sets it needs."""
    require(isinstance(getattr(cut.cls, "name", None), str) and bool(cut.cls.name), "the class has no name")
    require(bool(cut.cls.paper) or not cut.cls.data, "it says which 'data' it is defined on, and no 'paper'")


def same_seed_same_stream(cut: Cut) -> None:
    """One seed gives one stream, whatever the global random generators hold."""
    prints = set()
    for seed in (1, 2):
        with isolated(seed):
            prints.add(cut.stream(3).fingerprint)
    require(len(prints) == 1, "two streams of one seed differ")


def _of_the_stream(demand: contract.Demand) -> Check[Cut]:
    """A demand on the stream alone."""

    @wraps(demand)
    def run(cut: Cut) -> None:
        reason = next(demand(cut.stream(), cut.made(), cut.table()), "")
        require(not reason, reason)

    return Check(run)


def leaves_the_table_alone(cut: Cut) -> None:
    """The table it was given is not changed."""
    table, untouched = cut.table(), cut.table()
    cut.made().stream(table, 0)
    require(table.fingerprint == untouched.fingerprint, "it changed the table")


def changes_nothing_global(cut: Cut) -> None:
    """Random generators, working directory, environment and the like stay."""
    before = snapshot()
    cut.stream()
    found = changed(before)
    require(not found, f"changed: {', '.join(found)}")


def lost_images_change_nothing_else(cut: Cut) -> None:
    """Cut again without images that cannot be read, it loses these and no others."""
    before = cut.stream(1)
    lost = np.concatenate([before.joint().rows[::50], before.test[::40]])
    kept = np.setdiff1d(np.arange(len(before.dataset)), lost)
    again = cut.made().stream(before.dataset.take(kept, dropped={"unreadable images": len(lost)}), 1)
    require(again.labels == before.labels, "it has other labels then")
    require(_observed(again) == _observed(before), "its experiences observe other labels then")
    for what, old, new in (
        ("training", before.joint().rows, again.joint().rows),
        ("test", before.test, again.test),
    ):
        readable = before.dataset.image_id[np.setdiff1d(old, lost)]
        right = np.array_equal(again.dataset.image_id[new], readable)
        require(right, f"its {what} images are not those that were left")


def prints_nothing(cut: Cut) -> None:
    """Standard output stays empty: it belongs to results."""
    with contextlib.redirect_stdout(io.StringIO()) as told:
        cut.stream()
    require(not told.getvalue(), f"printed {told.getvalue()[:40]!r}")


def _observed(stream: Stream) -> list[tuple[int, ...]]:
    experiences: tuple[Experience, ...] = stream.experiences
    return [experience.observed for experience in experiences]


CHECKS: Final = (
    *(Check[Cut](demand) for demand in (cuts, says_what_it_is, same_seed_same_stream)),
    *map(_of_the_stream, contract.DEMANDS),
    *(
        Check[Cut](demand)
        for demand in (
            leaves_the_table_alone, changes_nothing_global, lost_images_change_nothing_else, prints_nothing,
        )
    ),
)  # fmt: skip
LIMIT: Final = 20.0
"""Seconds that a check may take."""


def check_scenario(
    scenario: str | type[Scenario] | Scenario,
    settings: Mapping[str, Any] | None = None,
    *,
    limit: float = LIMIT,
    progress: Progress | None = None,
) -> ContractReport:
    """See whether a scenario keeps the contract, in a few seconds on a made-up table.

    Args:
        scenario: Name of a scenario, a Python file, a class, or an instance.
        settings: Others than the default ones; values may be text.
        limit: Seconds that a check may take; all together take three times as long at most.
        progress: Called with what is done, how much of it and how much there is to do.

    Raises:
        UserError: If there is no such scenario or setting, or it cannot be imported.
    """
    return checked("scenarios", scenario, Cut, CHECKS, settings=settings, limit=limit, progress=progress)
