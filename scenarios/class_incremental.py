"""Each experience brings new patients and shows one new group of labels only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from retune.data.dataset import Dataset
from retune.settings import Count
from retune.streams.arrival import LabelArrival
from retune.streams.cuts import LabelOrder, group_labels, masked, order_labels, split_patients
from retune.streams.stream import Stream


@dataclass(frozen=True)
class ClassIncremental(LabelArrival):
    """Labels are split into groups; experience t holds part t of the patients and group t only.

    Args:
        steps: Number of experiences T.
        order: Order in which labels enter: dataset, frequency or random.
    """

    name: ClassVar[str] = "class-incremental"

    steps: Count = 5
    order: LabelOrder = "dataset"

    def stream(self, dataset: Dataset, seed: int) -> Stream:
        """Cut the data set; see :meth:`retune.streams.stream.Scenario.stream`."""
        rng = np.random.default_rng(seed)
        groups = self.in_order(group_labels(order_labels(dataset, self.order, rng), self.steps))
        parts = split_patients(dataset, self.steps, rng)
        experiences = tuple(
            masked(dataset, step, rows, group)
            for step, (rows, group) in enumerate(zip(parts, groups, strict=True), start=1)
        )
        return Stream(dataset, experiences, dataset.rows("test"), self.hidden)
