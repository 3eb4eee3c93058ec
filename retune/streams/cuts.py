"""How a table is cut: by label, by patient."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from retune.data.dataset import Dataset, IntArray
from retune.errors import BadSetting
from retune.streams.stream import Experience

LabelOrder = Literal["dataset", "frequency", "random"]


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
