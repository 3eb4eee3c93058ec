"""The patients arrive in parts, by chance or by site, view, data set or year, with every label a part knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from retune.data.dataset import Dataset, IntArray
from retune.errors import BadSetting
from retune.settings import Count
from retune.streams.cuts import known_labels, masked, split_patients
from retune.streams.periods import periods, years_of
from retune.streams.stream import Scenario, Stream


@dataclass(frozen=True)
class DataIncremental(Scenario):
    """Experience t holds part t of the patients with every label.

    A label that no training image of a part has a known value of is not observed there: a hospital
    that never recorded a finding does not teach it.

    Args:
        steps: Number of experiences T; none means 5 random parts, or one for each value of ``by``. By year it may be
            less than the number of years: neighbouring ones are then put together, to parts of like size.
        by: random for equal random parts; site or view for one experience per value, in alphabetical
            order; year for one per year, the earliest first; dataset for one per data set, in the order they were
            named; auto means dataset where several were named, else random.
    """

    name: ClassVar[str] = "data-incremental"

    steps: Count | None = None
    by: Literal["auto", "random", "site", "view", "dataset", "year"] = "auto"

    def stream(self, dataset: Dataset, seed: int) -> Stream:
        """Cut the data set; see :meth:`retune.streams.stream.Scenario.stream`."""
        by = self.by
        if by == "auto":
            by = "dataset" if len(np.unique(dataset.columns.get("dataset", []))) > 1 else "random"
        if by == "random":
            parts = split_patients(dataset, self.steps or 5, np.random.default_rng(seed))
        elif by == "year":
            home = years_of(dataset, where=f"scenario {self.name}, setting by")
            parts, told = periods(dataset, home, self.steps, where=f"scenario {self.name}, by year")
            dataset = replace(dataset, choices={**dataset.choices, "years": told})
        else:
            parts = self._by_column(dataset, by)
        experiences = tuple(
            masked(dataset, step, rows, known_labels(dataset, rows)) for step, rows in enumerate(parts, 1)
        )
        return Stream(dataset, experiences, dataset.rows("test"))

    def _by_column(self, dataset: Dataset, by: str) -> list[IntArray]:
        where = f"scenario {self.name}, setting by"
        if by not in dataset.columns:
            have = ", ".join(sorted(dataset.columns)) or "none"
            raise BadSetting(f"data set {dataset.name} has no column {by}", where=where, fix=f"it has {have}")
        rows = dataset.rows("train")
        values = dataset.columns[by][rows].astype(str)
        names, first = np.unique(values, return_index=True)
        if by == "dataset":
            names = names[np.argsort(first)]
        if self.steps not in (None, len(names)):
            raise BadSetting(
                f"{self.steps} steps asked for, but {by} has {len(names)} values: {', '.join(names)}",
                where=where,
                fix="leave steps out or use by=random",
            )
        # A patient seen at several places belongs to the first one only.
        _, start, patient = np.unique(dataset.patient_id[rows], return_index=True, return_inverse=True)
        home = values[start][patient]
        parts = [rows[home == name] for name in names]
        for name, part in zip(names, parts, strict=True):
            lacks = "patient of its own" if not len(part) else "known label"
            if not len(part) or not len(known_labels(dataset, part)):
                raise BadSetting(f"{by} '{name}' has no {lacks}", where=where, fix="use by=random")
        return parts
