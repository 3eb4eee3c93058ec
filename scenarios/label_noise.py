"""The patients arrive in random parts with every label, and the labels get worse, or better, over time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from retune.data.dataset import Dataset
from retune.settings import Count, Unit
from retune.streams.cuts import known_labels, masked, split_patients
from retune.streams.stream import Altered, Experience, Scenario, Stream


@dataclass(frozen=True)
class LabelNoise(Scenario):
    """Experience t holds part t of the patients with every label, a share of the known ones flipped.

    The share goes from ``first`` in experience 1 to ``last`` in experience T in equal steps. Labels are flipped
    independently of each other, present to absent and absent to present alike; unknown ones stay unknown. Test labels
    are true, and so is what an upper bound sees. Reports are withheld, for they tell the truth.

    Args:
        steps: Number of experiences T.
        first: Share flipped in the first experience, from 0 to 1.
        last: Share flipped in the last one; below ``first`` labels get better.
    """

    name: ClassVar[str] = "label-noise"
    alters_labels: ClassVar[Altered] = "flipped"

    steps: Count = 5
    first: Unit = 0.0
    last: Unit = 0.3

    def stream(self, dataset: Dataset, seed: int) -> Stream:
        """Cut the data set; see :meth:`retune.streams.stream.Scenario.stream`."""
        rng = np.random.default_rng(seed)
        parts = split_patients(dataset, self.steps, rng)
        true = [
            masked(dataset, step, rows, known_labels(dataset, rows)) for step, rows in enumerate(parts, 1)
        ]
        shares = np.linspace(self.first, self.last, self.steps).tolist()
        experiences = tuple(_flipped(e, share, rng) for e, share in zip(true, shares, strict=True))
        return Stream(dataset, experiences, dataset.rows("test"), altered=self.alters_labels)


def _flipped(experience: Experience, share: float, rng: np.random.Generator) -> Experience:
    """The same with a share of the targets the other way round; NaN stays NaN."""
    targets = experience.targets
    return replace(experience, targets=np.where(rng.random(targets.shape) < share, 1 - targets, targets))
