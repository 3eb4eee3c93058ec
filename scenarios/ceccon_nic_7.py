"""Ceccon et al., 2024: new instances and new classes, 7 tasks from CheXpert to NIH and back, 19 labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from retune.data.dataset import Dataset
from retune.streams.arrival import LabelArrival
from retune.streams.stream import Stream
from retune.streams.tasks import Task, needed, one_frontal_per_patient, split_80_10_10, task_stream

SHARED: Final = ("Consolidation", "Pneumonia", "Pneumothorax")
COMMON: Final = ("Atelectasis", "Cardiomegaly", "Edema", "Pleural Effusion")
TASKS: Final = (
    Task(SHARED, "chexpert"),
    Task(SHARED, "nih"),
    Task(
        ("Lung Opacity", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion", "Pleural Other"), "chexpert"
    ),
    Task(COMMON, "chexpert"),
    Task(COMMON, "nih"),
    Task(("Emphysema", "Fibrosis", "Hernia", "Infiltration"), "nih"),
    Task(("Mass", "Nodule", "Pleural Thickening"), "nih"),
)


@dataclass(frozen=True)
class CecconNIC7(LabelArrival):
    """Seven tasks over two data sets, each with all images positive for one of its labels.

    Between tasks either the data set changes or new labels come. Both data sets are split anew, 80/10/10 by
    a hash of the patient, and one image per patient is used, the first frontal one in table order.

    The published tasks have 6879, 1241, 25416, 25542, 3992, 4597 and 2929 training images; the authors drew
    their split at random. That they take the first frontal image is seen in their code for CheXpert; which
    image of an NIH patient they take is not published, and the first gives smaller tasks: 682, 2623, 3388 and
    2651 of the whole NIH data set.

    The authors test on the images of one task at a time. Here the test images are those of all tasks
    together, and a label is judged on the data sets that have it.

    Args:
        patients: published shows an image in every task that it is positive for; disjoint gives each
            training patient to one of these tasks, drawn by the seed.
    """

    name: ClassVar[str] = "ceccon-nic-7"
    data: ClassVar[str] = "chexpert,nih"
    paper: ClassVar[str] = (
        "Ceccon et al., Multi-Label Continual Learning for the Medical Domain: A Novel Benchmark, "
        "WACV 2025, arXiv:2404.06859"
    )
    recurs: ClassVar[bool] = True

    patients: Literal["published", "disjoint"] = "published"

    def stream(self, dataset: Dataset, seed: int) -> Stream:
        """Cut the data sets; see :meth:`retune.streams.stream.Scenario.stream`."""
        table = one_frontal_per_patient(split_80_10_10(needed(dataset, self, TASKS)))
        return task_stream(table, TASKS, self, patients=self.patients, seed=seed)
