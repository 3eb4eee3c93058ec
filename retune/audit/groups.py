"""Whether an update costs one group more than another: sex, age band, view, site, data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retune.audit.evidence import Bools, Evidence, Floats, Sampled, Slice
from retune.audit.flips import Update, flips
from retune.audit.testing import holm, standard_error, two_sided
from retune.metrics import detectable, interval

_Moved = tuple[str, list[Slice], Bools, list[Sampled], list[Sampled]]
"""A kind of group, its groups, the labels that all are judged by, how each changed, and how against the others."""


@dataclass(frozen=True)
class Change:
    """What an update did to one group.

    Args:
        group: Its name.
        before: Mean AUC over the labels that are judged in every group, before the update.
        auc: How it changed, with its interval.
        sensitivity: How its mean at the frozen thresholds changed; NaN before a label is in use.
        specificity: The same.
        flips: Patients per 1,000 for whom a right call becomes wrong.
        excess: Its change minus the mean change of the other groups, with its interval.
        p: That this is 0, two-sided, by Holm over every group of the update.
        detectable: The smallest excess that these patients would show.
    """

    group: str
    before: float
    auc: tuple[float, float, float]
    sensitivity: float
    specificity: float
    flips: float
    excess: tuple[float, float, float]
    p: float
    detectable: float

    @property
    def harmed(self) -> bool:
        """Whether it is shown to lose against the others, at the two-sided 5 % level, and to have lost at all."""
        return self.p < 0.05 and self.excess[0] < 0 and self.auc[0] < 0


@dataclass(frozen=True)
class Grouping:
    """The groups of one kind under one update.

    Args:
        by: ``sex``, ``age``, ...
        changes: Of the groups that are judged.
        gap: Largest difference of their mean AUC, before and after.
        labels: How many labels the means are over.
    """

    by: str
    changes: list[Change]
    gap: tuple[float, float]
    labels: int

    @property
    def worst(self) -> Change:
        """The group with the lowest mean AUC after the update."""
        return min(self.changes, key=lambda c: c.before + c.auc[0])


@dataclass(frozen=True)
class Fall:
    """A label that is shown to have fallen in a group: by how much, and its p-value by Holm over all of the update."""

    by: str
    group: str
    label: str
    change: tuple[float, float, float]
    p: float


def slices_of(evidence: Evidence) -> dict[str, dict[str, Slice]]:
    """By what images are grouped, how every version does on each group."""
    return {
        by: {str(g): evidence.slice(str(g), of == g) for g in np.unique(of[of != ""])}
        for by, of in evidence.groups.items()
    }


def comparable(slices: dict[str, Slice]) -> tuple[list[Slice], Bools]:
    """The groups that can be judged, and by which labels all of them can.

    A group that has enough images of fewer than half as many labels as the best known one is named, not judged.
    """
    many = {name: int(one.judged.sum()) for name, one in slices.items()}
    most = max(many.values(), default=0)
    judged = [one for name, one in slices.items() if many[name] and 2 * many[name] >= most]
    labels = np.logical_and.reduce([one.judged for one in judged]) if judged else np.zeros(0, dtype=bool)
    return (judged, labels) if labels.any() else ([], labels)


def unjudged(slices: dict[str, dict[str, Slice]]) -> list[str]:
    """Groups that are too small, a line for each kind."""
    found = []
    for by, of in slices.items():
        judged = {one.name for one in comparable(of)[0]}
        small = [f"{name} ({one.patients:,} patients)" for name, one in of.items() if name not in judged]
        if small:
            found.append(f"Not judged by {by}, for too few positives or negatives: {', '.join(small)}.")
    return found


def ranged(sampled: Sampled, level: float) -> tuple[float, float, float]:
    """A number with its interval."""
    low, high = interval(sampled.replicates, level)
    return float(sampled.value), float(low), float(high)


def groupings(evidence: Evidence, slices: dict[str, dict[str, Slice]], update: Update) -> list[Grouping]:
    """What an update did to every group.

    Args:
        evidence: Of the run.
        slices: Of :func:`slices_of`.
        update: Which versions.
    """
    found: list[_Moved] = []
    for by, of in slices.items():
        judged, labels = comparable(of)
        if len(judged) > 1:
            change = [(one.auc.at(update.after) - one.auc.at(update.before)).mean(labels) for one in judged]
            found.append((by, judged, labels, change, [excess(change, k) for k in range(len(change))]))
    # Of two groups each is the other's mirror: one comparison.
    every = [d for *_, ds in found for d in (ds if len(ds) > 2 else ds[:1])]
    errors = np.array([standard_error(d) for d in every])
    adjusted = iter(holm(two_sided(np.array([d.value for d in every]), errors)).tolist())
    return [
        _grouping(
            evidence, update, of, [next(adjusted) for _ in of[1]] if len(of[1]) > 2 else [next(adjusted)] * 2
        )
        for of in found
    ]


def excess(changes: list[Sampled], k: int) -> Sampled:
    """One group's change minus the mean change of the others."""
    others = [c for j, c in enumerate(changes) if j != k]
    return Sampled(
        np.asarray(changes[k].value - np.mean([c.value for c in others], axis=0)),
        changes[k].replicates - np.mean([c.replicates for c in others], axis=0),
    )


def _grouping(evidence: Evidence, update: Update, of: _Moved, adjusted: list[float]) -> Grouping:
    by, judged, labels, change, differences = of
    level = evidence.result.bootstrap.level
    called = labels & evidence.in_use[update.before]
    changes = []
    for one, moved, over, p in zip(judged, change, differences, adjusted, strict=True):
        sensitivity, specificity = (
            float((rate.at(update.after) - rate.at(update.before)).mean(called).value)
            for rate in (one.sensitivity, one.specificity)
        )
        rows = evidence.groups[by] == one.name
        changes.append(
            Change(
                one.name,
                float(one.auc.at(update.before).mean(labels).value),
                ranged(moved, level),
                sensitivity,
                specificity,
                float(flips(evidence.plain, update, rows).negative.value[-1]),
                ranged(over, level),
                p,
                detectable(over.replicates),
            )
        )
    means: NDArray[np.float64] = np.array([[c.before, c.before + c.auc[0]] for c in changes])
    spread: Floats = np.ptp(means, axis=0)
    return Grouping(by, changes, (float(spread[0]), float(spread[1])), int(labels.sum()))


def falls(evidence: Evidence, slices: dict[str, dict[str, Slice]], update: Update) -> list[Fall]:
    """Labels shown to have fallen in some group, the hardest hit first."""
    cells = [
        (by, one, c, (one.auc.at(update.after, c) - one.auc.at(update.before, c)))
        for by, of in slices.items()
        for one in of.values()
        for c in np.flatnonzero(one.judged)
    ]
    if not cells:
        return []
    values = np.array([cell[3].value for cell in cells])
    p = holm(two_sided(values, np.array([standard_error(cell[3]) for cell in cells])))
    level = evidence.result.bootstrap.level
    shown = [
        Fall(by, one.name, evidence.labels[c], ranged(change, level), float(q))
        for (by, one, c, change), value, q in zip(cells, values, p, strict=True)
        if q < 0.05 and value < 0
    ]
    return sorted(shown, key=lambda fall: fall.change[0])
