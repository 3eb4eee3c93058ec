"""Every label is observed in every experience; the patients arrive in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from retune.data.dataset import Dataset, IntArray
from retune.errors import BadSetting
from retune.settings import Count
from retune.stream import Scenario, Stream, masked, split_patients


@dataclass(frozen=True)
class DataIncremental(Scenario):
    """Experience t holds part t of the patients with every label.

    Args:
        steps: Number of experiences T; none means 5 random parts, or one for each value of ``by``.
        by: random for equal random parts, or site or view for one experience per value.
    """

    name: ClassVar[str] = "data-incremental"

    steps: Count | None = None
    by: Literal["random", "site", "view"] = "random"

    def stream(self, dataset: Dataset, seed: int) -> Stream:
        """Cut the data set; see :meth:`retune.stream.Scenario.stream`."""
        if self.by == "random":
            parts = split_patients(dataset, self.steps or 5, np.random.default_rng(seed))
        else:
            parts = self._by_column(dataset)
        every = range(len(dataset.labels))
        experiences = tuple(masked(dataset, step, rows, every) for step, rows in enumerate(parts, start=1))
        return Stream(dataset, experiences, dataset.rows("test"))

    def _by_column(self, dataset: Dataset) -> list[IntArray]:
        where = f"scenario {self.name}, setting by"
        if self.by not in dataset.columns:
            have = ", ".join(sorted(dataset.columns)) or "none"
            raise BadSetting(
                f"data set {dataset.name} has no column {self.by}", where=where, fix=f"it has {have}"
            )
        rows = dataset.rows("train")
        values = dataset.columns[self.by][rows].astype(str)
        names = np.unique(values)
        if self.steps not in (None, len(names)):
            raise BadSetting(
                f"{self.steps} steps asked for, but {self.by} has {len(names)} values: {', '.join(names)}",
                where=where,
                fix="leave steps out",
            )
        # A patient seen at several places belongs to the first one only.
        _, start, patient = np.unique(dataset.patient_id[rows], return_index=True, return_inverse=True)
        home = values[start][patient]
        parts = [rows[home == name] for name in names]
        if not all(map(len, parts)):
            raise BadSetting(
                f"a value of {self.by} has no patient of its own", where=where, fix="use by=random"
            )
        return parts
