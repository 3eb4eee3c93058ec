"""Ceccon et al., 2024: the fairness study's stream over CheXpert, 5 tasks of new labels, 12 labels in all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from retune.data.dataset import Dataset
from retune.streams.arrival import LabelArrival
from retune.streams.stream import Stream
from retune.streams.tasks import Task, needed, split_80_10_10, task_stream

TASKS: Final = (
    Task(("Consolidation", "Pneumonia", "Pneumothorax")),
    Task(("Lung Opacity", "Enlarged Cardiomediastinum", "Fracture")),
    Task(("Lung Lesion", "Pleural Other")),
    Task(("Atelectasis", "Cardiomegaly")),
    Task(("Edema", "Pleural Effusion")),
)


@dataclass(frozen=True)
class CecconCheXpert5(LabelArrival):
    """Five tasks with new labels each, and all images positive for one of them.

    The data set is split anew, 80/10/10 by a hash of the patient. The test images are those of all tasks together.

    Args:
        patients: published shows an image in every task that it is positive for; disjoint gives each
            training patient to one of these tasks, drawn by the seed.
    """

    name: ClassVar[str] = "ceccon-chexpert-5"
    data: ClassVar[str] = "chexpert"
    paper: ClassVar[str] = (
        "Ceccon et al., Fairness Evolution in Continual Learning for Medical Imaging, 2024, arXiv:2406.02480"
    )
    recurs: ClassVar[bool] = True

    patients: Literal["published", "disjoint"] = "published"

    def stream(self, dataset: Dataset, seed: int) -> Stream:
        """Cut the data set; see :meth:`retune.streams.stream.Scenario.stream`."""
        table = split_80_10_10(needed(dataset, self, TASKS))
        return task_stream(table, TASKS, self, patients=self.patients, seed=seed)
