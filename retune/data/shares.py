"""A share of the training patients: what is learnt from a hundredth of a data set, a tenth, or all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le

from retune.data.dataset import Array, BoolArray, Dataset
from retune.data.patients import placed
from retune.errors import BadSetting
from retune.settings import LATER


@dataclass(frozen=True)
class Share:
    """How much of a data set's training part is used.

    Args:
        share: Share of the training patients to learn from; those of 0.01 are among those of 0.1.
        draw: Which of many choices of such a share.
    """

    share: Annotated[float, Gt(0), Le(1)] = field(default=1.0, metadata=LATER)
    draw: Annotated[int, Ge(0)] = field(default=0, metadata=LATER)


def kept_share(patients: Sequence[Any] | Array, share: float, draw: int = 0) -> BoolArray:
    """Which images belong to a share of the patients, by a hash of the patient.

    The choice is nested (who is among 1 % is among 10 %) and does not change when patients are added.

    Args:
        patients: Patient per image, length N.
        share: Expected share of the patients, above 0, at most 1.
        draw: Which of many such choices.

    Returns:
        bool (N,): whether an image's patient is kept.
    """
    salt = "transfer" if draw == 0 else f"transfer\0{draw}"
    return (placed(np.asarray(patients), salt) < share) | (share >= 1)


def with_share(dataset: Dataset, asked: Share) -> Dataset:
    """The data set with a share of its training patients; validation and test stay as they are.

    Args:
        dataset: Any.
        asked: Which share; of all it is the data set itself.

    Returns:
        What was left out stands in ``dropped``; a label that keeps no positive training image is named in ``notes``.

    Raises:
        BadSetting: If no training image that is positive for a label is left.
    """
    share, draw = asked.share, asked.draw
    if share >= 1:
        return dataset
    train = dataset.split == "train"
    keep = ~train | kept_share(dataset.patient_id, share, draw)
    before, after = (len(np.unique(dataset.patient_id[rows])) for rows in (train, train & keep))
    had, has = ((dataset.targets[rows] == 1).any(axis=0) for rows in (train, train & keep))
    told = f"{after:,} of {before:,} training patients"
    if had.any() and not has.any():
        raise BadSetting(
            f"{share:g} keeps {told} and no positive label of any",
            where=f"data set {dataset.name}, setting share",
            fix="choose a larger share or another draw",
        )
    lost = [label for label, gone in zip(dataset.labels, (had & ~has).tolist(), strict=True) if gone]
    spoilt = (f"No positive training image is left by share={share:g} of: {', '.join(lost)}",) if lost else ()
    why = f"not of the {told} that share={share:g}{f' and draw={draw}' if draw else ''} keeps"
    cut = dataset.take(np.flatnonzero(keep), dropped={why: int((~keep).sum())})
    return replace(cut, share=share, notes=(*cut.notes, *spoilt))
