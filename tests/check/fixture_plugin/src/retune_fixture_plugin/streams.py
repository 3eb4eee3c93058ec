"""A scenario of two experiences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from retune import Dataset, Scenario, Stream
from retune.streams.cuts import masked, split_patients


@dataclass(frozen=True)
class Halves(Scenario):
    """Every label, in two random halves of the patients."""

    name: ClassVar[str] = "halves"

    def stream(self, dataset: Dataset, seed: int) -> Stream:
        parts = split_patients(dataset, 2, np.random.default_rng(seed))
        every = list(range(len(dataset.labels)))
        experiences = tuple(masked(dataset, step, rows, every) for step, rows in enumerate(parts, start=1))
        return Stream(dataset, experiences, dataset.rows("test"))
