"""A share of the training patients: how much of a data set's training part is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le

from retune.data.dataset import Array, BoolArray
from retune.data.patients import placed
from retune.settings import LATER


@dataclass(frozen=True)
class Share:
    """How much of the training part is used.

    Args:
        share: Share of the training patients, chosen by a hash: those of 0.01 are among those of 0.1.
        draw: Which of many such choices.
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
