"""Experiences and streams: what a scenario generator returns, and the pieces it is made of."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from retune.data.dataset import Dataset, FloatArray, IntArray
from retune.errors import BadSetting

if TYPE_CHECKING:
    from retune.backbones.base import Backbone

LabelOrder = Literal["dataset", "frequency", "random"]


@dataclass(frozen=True)
class Experience:
    """What is shown at one step of a stream; it knows nothing of any other step.

    Args:
        step: 1 for the first experience.
        observed: Columns of the labels observed here, ascending.
        rows: Rows of the data set that hold the training images, shape (n,).
        targets: float32 (n, C); NaN where a label is not observed here or unknown.
    """

    step: int
    observed: tuple[int, ...]
    rows: IntArray
    targets: FloatArray

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Stream:
    """A sequence of experiences over one data set, and the test images they are judged on.

    Args:
        dataset: The table the rows refer to.
        experiences: In the order they are shown.
        test: Rows of the test images, shape (M,).
    """

    dataset: Dataset
    experiences: tuple[Experience, ...]
    test: IntArray

    def __len__(self) -> int:
        return len(self.experiences)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the C columns."""
        return self.dataset.labels

    @property
    def first(self) -> IntArray:
        """The first experience (1..T) that observes each label, 0 if none does; shape (C,)."""
        first = np.zeros(len(self.labels), dtype=np.int64)
        for experience in reversed(self.experiences):
            first[list(experience.observed)] = experience.step
        return first

    @property
    def targets(self) -> FloatArray:
        """Labels of the test images, float32 (M, C)."""
        return self.dataset.targets[self.test]

    @property
    def patients(self) -> npt.NDArray[Any]:
        """Patient of each test image, shape (M,)."""
        return self.dataset.patient_id[self.test]

    def joint(self) -> Experience:
        """All training images of the stream with every label: what only an upper bound may see."""
        rows = np.unique(np.concatenate([e.rows for e in self.experiences]))
        return Experience(1, tuple(range(len(self.labels))), rows, self.dataset.targets[rows])

    def to_avalanche(self, features: str | Backbone | FloatArray, *, task_labels: bool = False) -> Any:
        """This stream as a benchmark for Avalanche's strategies; see :func:`retune.avalanche_bridge.benchmark.to_avalanche`.

        Args:
            features: A backbone or its name; or an array (N, d) with a row for each image of the data set.
            task_labels: Whether experience t is task t; otherwise every image is of task 0.
        """
        from retune.avalanche_bridge.benchmark import to_avalanche

        return to_avalanche(self, features, task_labels=task_labels)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the data set's fingerprint, every experience and the test rows."""
        digest = hashlib.sha256(self.dataset.fingerprint.encode())
        for experience in self.experiences:
            digest.update(np.asarray(experience.observed, dtype=np.int64).tobytes() + b"|")
            digest.update(np.ascontiguousarray(experience.rows).tobytes() + b";")
        digest.update(np.ascontiguousarray(self.test).tobytes())
        return digest.hexdigest()


class Scenario(ABC):
    """A generator of streams; a dataclass whose fields are its settings.

    Attributes:
        name: Name in the registry.
        data: Data sets that a published stream is defined on, comma-separated; empty where any will do.
        paper: Where a published stream comes from.
        recurs: Whether, as published, a patient may come again in a later experience.
    """

    name: ClassVar[str]
    data: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    recurs: ClassVar[bool] = False

    @abstractmethod
    def stream(self, dataset: Dataset, seed: int) -> Stream:
        """Cut a data set into a stream.

        Args:
            dataset: Must have training and test images.
            seed: The only source of randomness.

        Raises:
            BadSetting: If the data set cannot be cut so.
        """


def masked(dataset: Dataset, step: int, rows: IntArray, observed: npt.ArrayLike) -> Experience:
    """An experience that shows some rows and some labels; every other label is NaN.

    Args:
        dataset: The table.
        step: 1 for the first experience.
        rows: Training rows, shape (n,).
        observed: Columns shown.
    """
    columns = np.sort(np.asarray(observed, dtype=np.int64))
    targets = np.full((len(rows), len(dataset.labels)), np.nan, dtype=np.float32)
    targets[:, columns] = dataset.targets[np.ix_(rows, columns)]
    return Experience(step, tuple(columns.tolist()), rows, targets)


def known_labels(dataset: Dataset, rows: IntArray) -> IntArray:
    """The columns, ascending, of which at least one of these rows has a known value."""
    return np.flatnonzero(~np.isnan(dataset.targets[rows]).all(axis=0)).astype(np.int64)


def order_labels(dataset: Dataset, order: LabelOrder, rng: np.random.Generator) -> IntArray:
    """The columns in the order they enter a stream, shape (C,).

    Args:
        dataset: The table.
        order: ``dataset`` keeps the table's order, ``frequency`` puts the commonest training label
            first, ``random`` shuffles.
        rng: Used by ``random`` only.
    """
    columns = np.arange(len(dataset.labels), dtype=np.int64)
    if order == "random":
        return rng.permutation(columns)
    if order == "frequency":
        positives = np.nansum(dataset.targets[dataset.rows("train")], axis=0)
        return np.argsort(-positives, kind="stable").astype(np.int64)
    return columns


def group_labels(order: IntArray, steps: int) -> list[IntArray]:
    """Cut ordered labels into groups whose sizes differ by one at most: 14 in 5 is 3+3+3+3+2.

    Raises:
        BadSetting: If there are more steps than labels.
    """
    if steps > len(order):
        raise BadSetting(
            f"{steps} steps need at least {steps} labels, the data set has {len(order)}",
            where="scenario, setting steps",
            fix=f"give --steps {len(order)} or fewer",
        )
    return np.array_split(order, steps)


def split_patients(dataset: Dataset, steps: int, rng: np.random.Generator) -> list[IntArray]:
    """Cut the training rows into random parts of like size, no patient in two of them.

    Returns:
        ``steps`` arrays of rows, each ascending, none empty; together every training row once.

    Raises:
        BadSetting: If there are more steps than training patients.
    """
    rows = dataset.rows("train")
    _, patient = np.unique(dataset.patient_id[rows], return_inverse=True)
    n_patients = int(patient.max(initial=-1)) + 1
    if steps > n_patients:
        raise BadSetting(
            f"{steps} steps need at least {steps} training patients, the data set has {n_patients}",
            where="scenario, setting steps",
        )
    images = np.bincount(patient, minlength=n_patients)
    shuffled = rng.permutation(n_patients)
    # A patient joins the part in which the middle of its images falls.
    middle = np.cumsum(images[shuffled]) - images[shuffled] / 2
    part = np.minimum((middle * steps / len(rows)).astype(np.int64), steps - 1)
    # One patient with very many images could leave a part empty: then share by patients instead.
    if len(np.unique(part)) < steps:
        part = np.arange(n_patients) * steps // n_patients
    part_of_patient = np.empty(n_patients, dtype=np.int64)
    part_of_patient[shuffled] = part
    return [rows[part_of_patient[patient] == k] for k in range(steps)]
