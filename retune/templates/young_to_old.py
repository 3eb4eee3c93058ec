"""The youngest patients come first: experience t holds the t-th part of the training patients by age, every label."""

from dataclasses import dataclass

import numpy as np

from retune import Dataset, Scenario, Stream
from retune.errors import BadSetting
from retune.settings import Count
from retune.streams.cuts import known_labels, masked


@dataclass(frozen=True)
class YoungToOld(Scenario):
    """What ``retune show`` prints, with a line for each setting that ``--set scenario.NAME`` reads.

    Args:
        steps: Number of experiences.
    """

    name = "young-to-old"

    steps: Count = 3

    def stream(self, dataset: Dataset, seed: int) -> Stream:  # anything random: np.random.default_rng(seed)
        if "age" not in dataset.columns:
            raise BadSetting(f"data set {dataset.name} has no column age", where="scenario young-to-old")
        rows = dataset.rows("train")
        # One age for each patient, so that nobody comes again.
        _, first, patient = np.unique(dataset.patient_id[rows], return_index=True, return_inverse=True)
        age = np.nan_to_num(dataset.columns["age"][rows].astype(float))[first]
        rank = np.argsort(np.argsort(age, kind="stable"))
        part = rank[patient] * self.steps // max(1, len(first))
        experiences = tuple(
            masked(dataset, step, rows[part == step - 1], known_labels(dataset, rows[part == step - 1]))
            for step in range(1, self.steps + 1)
        )
        return Stream(dataset, experiences, dataset.rows("test"))
