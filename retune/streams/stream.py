"""Experiences and streams: what a scenario generator returns, and the pieces it is made of."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from retune.data.dataset import Dataset, FloatArray, IntArray
from retune.metrics.continual import first_learnt
from retune.metrics.facts import LabelFacts, prevalence_of

Hidden = Literal["masked", "absent"]
"""What a label that an experience does not observe looks like to who learns: unknown, or absent."""
Altered = Literal["", "withheld", "flipped"]
"""What is done to observed labels of training images: nothing; some are unknown that the table knows; or some that it
knows are the other way round."""


@dataclass(frozen=True)
class Experience:
    """What is shown at one step of a stream; it knows nothing of any other step.

    Args:
        step: 1 for the first experience.
        observed: Columns of the labels observed here, ascending.
        rows: Rows of the data set that hold the training images, shape (n,).
        targets: float32 (n, C); NaN where a label is unknown, and where it is not observed here: there the targets of
            a stream with ``hidden="absent"`` are 0.
    """

    step: int
    observed: tuple[int, ...]
    rows: IntArray
    targets: FloatArray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shown(self) -> tuple[int, ...]:
        """Columns that have targets: the observed ones, and every other one where hidden labels read as absent."""
        hidden = np.setdiff1d(np.arange(self.targets.shape[1]), self.observed)
        told = hidden[~np.isnan(self.targets[:, hidden]).all(axis=0)]
        return tuple(sorted({*self.observed, *told.tolist()}))

    def shows(self, value: float) -> npt.NDArray[np.bool_]:
        """Whether an image with this target of each label observed is shown; of no other label; shape (C,)."""
        found = np.zeros(self.targets.shape[1], dtype=bool)
        columns = list(self.observed)
        found[columns] = (self.targets[:, columns] == value).any(axis=0)
        return found


@dataclass(frozen=True)
class Stream:
    """A sequence of experiences over one data set, and the test images they are judged on.

    Args:
        dataset: The table the rows refer to.
        experiences: In the order they are shown.
        test: Rows of the test images, shape (M,).
        hidden: What a label that an experience does not observe looks like: ``masked`` is NaN; ``absent`` is 0, as
            much of the field has it. Nothing else of a stream hangs on it: which labels are observed, when one is first
            learnt, test labels and :meth:`joint` are the same.
        altered: What was done to observed labels of the experiences; test labels and :meth:`joint` have the true ones.
    """

    dataset: Dataset
    experiences: tuple[Experience, ...]
    test: IntArray
    hidden: Hidden = "masked"
    altered: Altered = ""

    def __post_init__(self) -> None:
        if self.hidden == "absent":
            object.__setattr__(self, "experiences", tuple(map(_absent, self.experiences)))

    def __len__(self) -> int:
        return len(self.experiences)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the C columns."""
        return self.dataset.labels

    @property
    def taught(self) -> tuple[Experience, ...]:
        """The experiences that must hold images: all of them."""
        return self.experiences

    @property
    def first(self) -> IntArray:
        """The first experience (1..T) by the end of which each label can have been learnt; shape (C,).

        See :func:`retune.metrics.first_learnt`: both a positive and a negative training image have been shown; 0
        if they never are.
        """
        positive, negative = (np.stack([e.shows(value) for e in self.experiences]) for value in (1, 0))
        return first_learnt(positive, negative)

    @property
    def prevalence(self) -> npt.NDArray[np.float64]:
        """Of each label in all training images of the stream, from 0 to 1, NaN if known of none; shape (C,).

        An experience masks labels, which says nothing of how common they are: every label that the data set knows
        counts, whichever experience observes it. So a label is as common in one scenario as in another.
        """
        return prevalence_of(self.joint().targets)

    @property
    def facts(self) -> LabelFacts:
        """What metrics need to know of the training images."""
        return LabelFacts(self.first, self.prevalence)

    @property
    def unlearnable(self) -> tuple[str, ...]:
        """Labels without a positive or without a negative training image: what no method can learn here."""
        return tuple(label for label, step in zip(self.labels, self.first.tolist(), strict=True) if step == 0)

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

    @property
    def rows(self) -> IntArray:
        """Rows of every training image, ascending, then of the test images: those that are encoded."""
        return np.concatenate([self.joint().rows, self.test])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the data set's fingerprint, every experience, the test rows, and what hidden labels look like.

        Targets count where they are not the table's.
        """
        digest = hashlib.sha256(self.dataset.fingerprint.encode())
        for experience in self.experiences:
            digest.update(np.asarray(experience.observed, dtype=np.int64).tobytes() + b"|")
            digest.update(np.ascontiguousarray(experience.rows).tobytes() + b";")
        digest.update(np.ascontiguousarray(self.test).tobytes())
        if self.hidden != "masked":  # streams were masked before there was a choice
            digest.update(f"|{self.hidden}".encode())
        if self.altered:
            digest.update(f"|{self.altered}".encode())
            for experience in self.experiences:
                digest.update(np.nan_to_num(experience.targets, nan=2).astype(np.uint8).tobytes())
        return digest.hexdigest()


def _absent(experience: Experience) -> Experience:
    """The same with 0 for every label that it does not observe."""
    targets = np.zeros_like(experience.targets)
    columns = list(experience.observed)
    targets[:, columns] = experience.targets[:, columns]
    return replace(experience, targets=targets)


class Scenario(ABC):
    """A generator of streams; a dataclass whose fields are its settings.

    Attributes:
        name: Name in the registry.
        data: Data sets that a published stream is defined on, comma-separated; empty where any will do.
        paper: Where a published stream, or a way of cutting, comes from.
        recurs: Whether, as published, a patient may come again in a later experience.
        alters_labels: What it does to observed labels of training images, as its streams say (:attr:`Stream.altered`).
    """

    name: ClassVar[str]
    data: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    recurs: ClassVar[bool] = False
    alters_labels: ClassVar[Altered] = ""

    @abstractmethod
    def stream(self, dataset: Dataset, seed: int) -> Stream:
        """Cut a data set into a stream.

        Args:
            dataset: Must have training and test images.
            seed: The only source of randomness.

        Raises:
            BadSetting: If the data set cannot be cut so.
        """
