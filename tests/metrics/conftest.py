"""The public predictions of a DenseNet-121 on NIH ChestX-ray14, where the checkout has them beside it."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@dataclass(frozen=True)
class Predictions:
    targets: NDArray[np.float64]
    scores: NDArray[np.float64]
    patients: NDArray[np.int64]
    published: NDArray[np.float64]


@pytest.fixture(scope="session")
def chexnet() -> Predictions:
    predictions = DATA / "chexnet-predictions" / "preds.csv.gz"
    labels = DATA / "nih-labels" / "Data_Entry_2017_v2020.csv.gz"
    if not (predictions.exists() and labels.exists()):
        pytest.skip("the CheXNet predictions and the NIH labels are not in ../shared/data")
    with gzip.open(labels, "rt", newline="") as file:
        truth = {r["Image Index"]: (set(r["Finding Labels"].split("|")), int(r["Patient ID"]))
                 for r in csv.DictReader(file)}  # fmt: skip
    with gzip.open(predictions, "rt", newline="") as file:
        head, *rows = csv.reader(file)
    with (predictions.parent / "aucs.csv").open(newline="") as file:
        published = {r["label"]: float(r["auc"]) for r in csv.DictReader(file)}
    names = [name.removeprefix("prob_") for name in head[1:]]
    return Predictions(
        np.array([[float(name in truth[row[0]][0]) for name in names] for row in rows]),
        np.array([row[1:] for row in rows], dtype=np.float64),
        np.array([truth[row[0]][1] for row in rows]),
        np.array([published[name] for name in names]),
    )
