"""Patients for whom an update turns a right call into a wrong one, and the reverse (Yan et al., CVPR 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from retune.audit.evidence import Bools, Evidence, Floats, Sampled

PER: Final = 1000
"""Patients that a rate is told of."""


@dataclass(frozen=True)
class Update:
    """One version in the place of another; 0 is zero-shot."""

    before: int
    after: int
    last: bool = False
    """Whether it is the first version against the last, in one step."""

    @property
    def name(self) -> str:
        """How it is told."""
        return f"{self.before or 'zero-shot'} → {self.after}"


def updates(versions: int) -> list[Update]:
    """Every update of a run with so many versions after zero-shot; last, the first version against the last."""
    found = [Update(v - 1, v) for v in range(1, versions + 1)]
    return [*found, Update(1, versions, last=True)] if versions > 2 else found


@dataclass(frozen=True)
class Flips:
    """What an update does to calls; arrays have a place for each label and, last, one for all labels together.

    Args:
        patients: Of how many something is known that both versions call, ``(C+1,)``.
        lost: For how many some right call becomes wrong.
        won: For how many some wrong call becomes right.
        negative: ``lost`` per 1,000 patients; NaN where no label is called.
        positive: ``won`` per 1,000 patients.
    """

    patients: NDArray[np.intp]
    lost: NDArray[np.intp]
    won: NDArray[np.intp]
    negative: Sampled
    positive: Sampled

    @property
    def net(self) -> Sampled:
        """Won minus lost, per 1,000 patients."""
        return self.positive - self.negative


def flips(evidence: Evidence, update: Update, rows: Bools | None = None) -> Flips:
    """Count flips among test images, which no version trained on.

    A label counts where both versions call it at its one frozen threshold: an update that first brings a label turns
    no call of it.

    Args:
        evidence: Of the run.
        update: Which versions.
        rows: Which images, ``(N,)``; all where left out.
    """
    rows = np.ones(len(evidence.targets), dtype=bool) if rows is None else rows
    called = evidence.in_use[update.before] & evidence.in_use[update.after]
    known = ~np.isnan(evidence.targets[rows]) & called
    before, after = evidence.right[update.before][rows], evidence.right[update.after][rows]
    _, at, of = np.unique(evidence.patients[rows], return_index=True, return_inverse=True)
    turned = (known, known & before & ~after, known & ~before & after)
    people, lost, won = (_by_patient(images, of, len(at)) for images in turned)
    weights = evidence.weights[:, rows][:, at].astype(np.float32)

    drawn = weights @ people.astype(np.float32)

    def rate(chosen: Bools) -> Sampled:
        found = weights @ chosen.astype(np.float32)
        return Sampled(_share(chosen.sum(axis=0), people.sum(axis=0)), _share(found, drawn))

    return Flips(people.sum(axis=0), lost.sum(axis=0), won.sum(axis=0), rate(lost), rate(won))


def _by_patient(images: Bools, of: NDArray[np.intp], many: int) -> Bools:
    """Whether any image of a patient is chosen, by label and, last, for any label: (P, C+1)."""
    found = np.zeros((many, images.shape[1] + 1), dtype=bool)
    np.logical_or.at(found[:, :-1], of, images)
    found[:, -1] = found[:, :-1].any(axis=1)
    return found


def _share(chosen: NDArray[np.generic], people: NDArray[np.generic]) -> Floats:
    whole = np.asarray(people, dtype=np.float64)
    return np.where(whole > 0, PER * np.asarray(chosen, dtype=np.float64) / np.maximum(whole, 1), np.nan)
