"""Building blocks of published streams made of tasks: some labels, and the images positive for one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from retune.data.dataset import Array, BoolArray, Dataset, split_by_patient
from retune.data.views import in_views
from retune.errors import BadSetting
from retune.streams.arrival import LabelArrival
from retune.streams.cuts import masked
from retune.streams.stream import Scenario, Stream

Patients = Literal["published", "disjoint"]
"""Whether an image comes in every task it is positive for, or its patient in one of them only."""


@dataclass(frozen=True)
class Task:
    """One experience of a published stream.

    Args:
        labels: Canonical names of the labels it observes.
        dataset: Name of the data set its images are from; empty for any.
    """

    labels: tuple[str, ...]
    dataset: str = ""


def labels_of(tasks: Iterable[Task]) -> tuple[str, ...]:
    """Every label of some tasks once, in the order in which they first appear."""
    return tuple(dict.fromkeys(label for task in tasks for label in task.labels))


def needed(dataset: Dataset, scenario: Scenario, tasks: Sequence[Task]) -> Dataset:
    """The data set with the labels of some tasks only, in the order in which they first appear.

    Args:
        dataset: Any.
        scenario: Whose tasks they are, for the message.
        tasks: What it must hold.

    Raises:
        BadSetting: If it lacks a label or a data set; says which ``--data`` the scenario is defined on.
    """
    labels = labels_of(tasks)
    lacking = [label for label in labels if label not in dataset.labels]
    lacking += sorted({task.dataset for task in tasks if task.dataset} - set(_names(dataset).tolist()))
    if lacking:
        raise BadSetting(
            f"data set {dataset.name} lacks {', '.join(lacking)}",
            where=f"scenario {scenario.name}",
            fix=f"it needs --data {scenario.data}",
        )
    return dataset.with_labels(labels)


def split_80_10_10(dataset: Dataset) -> Dataset:
    """The data set split anew: 80 % of patients train, 10 % valid, 10 % test, by a hash of the patient."""
    return dataset.with_split(split_by_patient(dataset.patient_id, valid=0.1, test=0.1))


def one_frontal_per_patient(dataset: Dataset) -> Dataset:
    """The data set with each patient's first frontal image in table order, and no other.

    Without a column ``view`` every image counts as frontal.
    """
    view = dataset.columns.get("view")
    frontal = np.arange(len(dataset)) if view is None else np.flatnonzero(in_views(view, "frontal"))
    _, first = np.unique(dataset.patient_id[frontal], return_index=True)
    return _take(dataset, np.sort(frontal[first]), "not the patient's first frontal image")


def task_stream(
    dataset: Dataset, tasks: Sequence[Task], scenario: LabelArrival, *, patients: Patients, seed: int
) -> Stream:
    """The stream of some tasks; an image positive for no label of a task of its data set is left out.

    The test images are those of the test split that remain, of all tasks together.

    Args:
        dataset: As :func:`needed` gives it, split.
        tasks: One for each experience, in order.
        scenario: Whose stream it is, for messages and its settings.
        patients: ``published`` shows an image in every task that it is positive for; ``disjoint`` gives each
            training patient to one of these tasks.
        seed: Of that draw. It is made patient by patient, so that leaving out one moves no other.

    Raises:
        BadSetting: If a task is left without training images, or the stream without test images.
    """
    where = f"scenario {scenario.name}"
    fits = _fits(dataset, tasks)
    kept = np.flatnonzero(fits.any(axis=1))
    table, fits = _take(dataset, kept, "positive for no label of a task"), fits[kept]
    train = table.rows("train")
    shown = fits[train]
    if patients == "disjoint":
        shown &= _home(table.patient_id[train], shown, seed)
    experiences = []
    for step, t in enumerate(scenario.in_order(range(len(tasks))), start=1):
        task, rows = tasks[t], train[shown[:, t]]
        if not len(rows):
            raise BadSetting(
                f"no training image is left for task {step} ({', '.join(task.labels)})", where=where
            )
        experiences.append(masked(table, step, rows, [table.labels.index(label) for label in task.labels]))
    if not len(table.rows("test")):
        raise BadSetting("no test image is positive for a label of the stream", where=where)
    return Stream(table, tuple(experiences), table.rows("test"), scenario.hidden)


def _fits(dataset: Dataset, tasks: Sequence[Task]) -> BoolArray:
    """Which images are positive for a label of each task, and of its data set; (N, T)."""
    names, positive = _names(dataset), dataset.targets == 1
    fits = np.zeros((len(dataset), len(tasks)), dtype=bool)
    for t, task in enumerate(tasks):
        columns = [dataset.labels.index(label) for label in task.labels]
        fits[:, t] = positive[:, columns].any(axis=1) & ((names == task.dataset) | (not task.dataset))
    return fits


def _home(patient_id: Array, fits: BoolArray, seed: int) -> BoolArray:
    """Which task each image's patient is given to, one of those that its images fit; (N, T)."""
    names, patient = np.unique(patient_id.astype(str), return_inverse=True)
    tasks = fits.shape[1]
    eligible = np.zeros((len(names), tasks), dtype=bool)
    np.logical_or.at(eligible, patient, fits)
    # Every patient has a lot for every task and goes to the eligible one with the highest.
    digests = [hashlib.shake_256(f"{seed}\0{name}".encode()).digest(4 * tasks) for name in names.tolist()]
    lots = np.frombuffer(b"".join(digests), dtype="<u4").reshape(len(names), tasks)
    task = np.where(eligible, lots.astype(np.int64), -1).argmax(axis=1)
    return np.asarray(task[patient][:, None] == np.arange(tasks))


def _names(dataset: Dataset) -> Array:
    """Name of the data set that each image is from, shape (N,)."""
    names = dataset.columns.get("dataset")
    return np.full(len(dataset), dataset.name) if names is None else names.astype(str)


def _take(dataset: Dataset, rows: Array, why_not: str) -> Dataset:
    lost = len(dataset) - len(rows)
    return dataset.take(rows, dropped={why_not: lost} if lost else None)
