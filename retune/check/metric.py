"""All checks of a metric of one's own: what tables rely on, shown on made-up runs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from retune.check.checks import Check, ContractReport, Failed, Plugin, checked, require
from retune.check.world import changed, snapshot
from retune.errors import UserError
from retune.metrics import auroc
from retune.metrics.own.base import Array, OwnMetric
from retune.progress import Progress
from retune.results.own import checked_name

LIMIT: Final = 20.0
"""Seconds that a check may take."""
Given = tuple[Array, Array, Array]


def made_up(seed: int = 0, images: int = 120, labels: int = 4, unknown: float = 0.2) -> Given:
    """Matrix, scores and targets of a run of three experiences; the last label has no positive image."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((images, labels)) < 0.4).astype(np.float32)
    targets[:, -1] = 0
    targets[rng.random(targets.shape) < unknown] = np.nan
    skill = np.linspace(0, 1.5, 4)[:, None, None] * np.linspace(0.5, 1, labels)
    scores = rng.standard_normal((4, *targets.shape)) + skill * np.nan_to_num(targets)
    return _matrix(scores, targets), scores.astype(np.float32), targets


def _matrix(scores: Array, targets: Array) -> Array:
    return np.stack([np.asarray(auroc(targets, of)) for of in scores])


@dataclass(frozen=True)
class Measure(Plugin[OwnMetric]):
    """A metric to check."""

    def of(self, given: Given, metric: OwnMetric | None = None) -> float:
        """Its number."""
        value = (metric or self.made()).measure(*given)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise Failed(f"measure gave {type(value).__name__}, not a number") from None


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def measures(of: Measure) -> None:
    """It gives a number of a run whose targets are all known, or NaN."""
    found = of.of(made_up(unknown=0.0))
    require(not math.isinf(found), f"it gave {found}")


def says_what_it_is(of: Measure) -> None:
    """It has a name that no metric of the benchmark has, a docstring, and says which way is better."""
    try:
        checked_name(of.cls, of.cls.__name__)
    except UserError as error:
        raise Failed(str(error)) from None
    own = any(k.__doc__ for k in of.cls.__mro__ if issubclass(k, OwnMetric) and k is not OwnMetric)
    require(own or bool(inspect.getdoc(inspect.getmodule(of.cls))), "no docstring says what it means")
    require(
        of.cls.better in ("higher", "lower"), f"better is {of.cls.better!r}, neither 'higher' nor 'lower'"
    )


def takes_unknown_targets(of: Measure) -> None:
    """Unknown targets (NaN) do not make it fail or infinite, and it is a number where most are known."""
    found = of.of(made_up())
    require(not math.isinf(found), f"it gave {found}")
    whole = of.of(made_up(unknown=0.0))
    require(math.isnan(whole) or not math.isnan(found), "it is NaN as soon as one target is unknown")


def takes_what_is_undefined(of: Measure) -> None:
    """Labels without an AUC, and a run without any, give a number or NaN."""
    matrix, scores, targets = made_up()
    for nothing in (np.zeros_like(targets), np.full_like(targets, np.nan)):
        found = of.of((np.full_like(matrix, np.nan), scores, nothing))
        require(not math.isinf(found), f"it gave {found} where no label has an AUC")


def same_run_same_number(of: Measure) -> None:
    """Asked twice, of one metric or of two, it gives one number: it keeps nothing and draws nothing."""
    first, other, metric = made_up(), made_up(seed=1), of.made()
    found = of.of(first, metric)
    of.of(other, metric)
    require(_same(of.of(first, metric), found), "asked again, it gives another number")
    np.random.seed(1)
    require(_same(of.of(first), found), "another one like it gives another number")


def leaves_what_it_is_given(of: Measure) -> None:
    """Matrix, scores and targets are as they were, also where they cannot be written."""
    given = made_up()
    kept = [array.copy() for array in given]
    of.of(given)
    for name, array, before in zip(("matrix", "scores", "targets"), given, kept, strict=True):
        require(np.array_equal(array, before, equal_nan=True), f"it changed {name}")


def order_of_images_is_irrelevant(of: Measure) -> None:
    """The test images in another order give the same number."""
    matrix, scores, targets = made_up()
    turned = np.random.default_rng(2).permutation(len(targets))
    found, other = of.of((matrix, scores, targets)), of.of((matrix, scores[:, turned], targets[turned]))
    close = _same(found, other) or math.isclose(found, other, rel_tol=1e-9, abs_tol=1e-12)
    require(close, f"{found:.6g} becomes {other:.6g}")


def changes_nothing_global(of: Measure) -> None:
    """Random generators, working directory, environment and the like stay."""
    metric, before = of.made(), snapshot()
    of.of(made_up(), metric)
    found = changed(before)
    require(not found, f"changed: {', '.join(found)}")


CHECKS: Final = tuple(
    Check[Measure](demand)
    for demand in (
        measures, says_what_it_is, takes_unknown_targets, takes_what_is_undefined, same_run_same_number,
        leaves_what_it_is_given, order_of_images_is_irrelevant, changes_nothing_global,
    )
)  # fmt: skip


def check_metric(
    metric: str | type[OwnMetric] | OwnMetric,
    settings: Mapping[str, Any] | None = None,
    *,
    limit: float = LIMIT,
    progress: Progress | None = None,
) -> ContractReport:
    """See whether a metric of one's own keeps the contract, on made-up runs.

    Args:
        metric: Name of a metric, a Python file, a class, or an instance.
        settings: Others than the default ones; values may be text.
        limit: Seconds that a check may take.
        progress: Called with what is done, how much of it and how much there is to do.

    Raises:
        UserError: If there is no such metric or setting, or it cannot be imported.
    """
    return checked("metrics", metric, Measure, CHECKS, settings=settings, limit=limit, progress=progress)
