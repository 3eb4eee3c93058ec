"""Made-up tables for scenarios to cut: patients with several images, sites, views and unknown labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NoReturn

import numpy as np

from retune.data import findings
from retune.data.dataset import Dataset
from retune.data.several import combine

LABELS: Final = tuple(f"label {c}" for c in range(14))
KNOWN: Final = {"chexpert": findings.CHEXPERT, "nih": findings.NIH}
"""The labels of the data sets that published streams are cut from most."""


class NoImages:
    """Pictures that nobody may ask for: a scenario never looks at one."""

    def load(self, rows: object, at_least: int | None = None) -> NoReturn:
        """Refused."""
        raise AssertionError("a scenario opened a picture")

    keys = exists = load

    def describe(self, row: int) -> str:
        """Its number."""
        return str(row)


def dataset(n_patients: int = 300, seed: int = 0, labels: Sequence[str] = LABELS) -> Dataset:
    """Patients with 1 to 6 images each, at three sites, of both sexes and all ages, some labels unknown.

    Args:
        n_patients: How many.
        seed: Of everything random.
        labels: Names of the labels.
    """
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n_patients), rng.integers(1, 7, n_patients))
    rng.shuffle(patient)
    n = len(patient)
    targets = (rng.random((n, len(labels))) < 0.3).astype(np.float32)
    targets[rng.random((n, len(labels))) < 0.1] = np.nan
    return Dataset(
        name="made up",
        labels=tuple(labels),
        image_id=np.array([f"image {i}" for i in range(n)]),
        patient_id=np.array([f"patient {p}" for p in patient]),
        split=np.where(patient % 5 == 0, "test", np.where(patient % 5 == 1, "valid", "train")),
        targets=targets,
        images=NoImages(),
        columns={
            "site": np.array(["north", "south", "west"])[patient % 3],
            "view": np.full(n, "PA"),
            "age": (20 + patient % 70).astype(np.float32),
            "sex": np.array(["F", "M"])[patient % 2],
        },
    )


def several(names: Sequence[str] = ()) -> Dataset:
    """What every scenario can cut: chexpert, nih and other data sets by name, with labels and views of theirs.

    Args:
        names: The other data sets.
    """
    parts = []
    for seed, name in enumerate(dict.fromkeys((*KNOWN, *names))):
        table = dataset(seed=seed, labels=KNOWN.get(name, findings.FINDINGS))
        views = np.array(["PA", "AP", "lateral"])[np.arange(len(table)) % 3]
        parts.append(replace(table, name=name, columns={**table.columns, "view": views}))
    return combine(parts)
