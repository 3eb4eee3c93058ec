"""RE-tune's streams over the five CheXpert competition labels: class-, label- or data-incremental."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np

from retune.data.dataset import Dataset
from retune.data.findings import COMPETITION
from retune.errors import BadSetting
from retune.settings import Count
from retune.streams.arrival import LabelArrival
from retune.streams.cuts import masked, split_patients
from retune.streams.stream import Stream
from retune.streams.tasks import Task, needed

STEPS: Final = {"class": (5,), "label": (5,), "data": (5, 10, 20)}


@dataclass(frozen=True)
class ReTuneCheXpert5(LabelArrival):
    """Training images in equal parts by patient, on the data set's own splits.

    The published runs used the labels of visualCheXbert, which is a setting of the data set:
    ``--set data.labels_from=visualchexbert``.

    Args:
        kind: class shows one label at a time, label the labels so far plus one, data every label each time.
        steps: Number of experiences T: 5, or also 10 or 20 where kind is data.
    """

    name: ClassVar[str] = "re-tune-chexpert-5"
    data: ClassVar[str] = "chexpert"
    paper: ClassVar[str] = (
        "Mistretta and Bagdanov, RE-tune: Incremental Fine Tuning of Biomedical Vision-Language Models for "
        "Multi-label Chest X-ray Classification, 2024, arXiv:2410.17827"
    )

    kind: Literal["class", "label", "data"] = "class"
    steps: Count = 5

    def __post_init__(self) -> None:
        """Refuse a number of steps that was not published, and to hide or order what is always shown."""
        if self.kind == "data" and (self.hidden, self.task_order) != ("masked", 1):
            raise BadSetting(
                "kind=data observes every label in every experience, so none is hidden or comes before another",
                where=f"scenario {self.name}, settings hidden and task_order",
                fix="leave them out",
            )
        if self.steps not in STEPS[self.kind]:
            raise BadSetting(
                f"{self.steps} steps were not published with kind={self.kind}",
                where=f"scenario {self.name}, setting steps",
                fix=f"give {' or '.join(map(str, STEPS[self.kind]))}",
            )

    def stream(self, dataset: Dataset, seed: int) -> Stream:
        """Cut the data set; see :meth:`retune.streams.stream.Scenario.stream`."""
        table = needed(dataset, self, (Task(COMPETITION),))
        parts = split_patients(table, self.steps, np.random.default_rng(seed))
        order = self.in_order(range(len(COMPETITION)))
        experiences = tuple(
            masked(table, step, rows, self._observed(step, order)) for step, rows in enumerate(parts, start=1)
        )
        return Stream(table, experiences, table.rows("test"), self.hidden)

    def _observed(self, step: int, order: list[int]) -> list[int]:
        if self.kind == "data":
            return order
        return order[step - 1 if self.kind == "class" else 0 : step]
