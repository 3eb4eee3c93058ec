"""``localisation`` on squares that are known: its numbers follow from what is kept of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retune.metrics.localisation import average_precision, false_positives, froc, from_arrays
from retune.transfers.base import Part, Task
from retune.transfers.localisation import Localisation
from retune.transfers.segmentation import Segmentation

N, SIZE, GRID = 40, 32, 8


def part(seed: int) -> tuple[Part, torch.Tensor]:
    """A square anywhere in every second picture, one at the same place in all of which somebody looked; maps of both."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((N, 2, SIZE, SIZE), dtype=bool)
    for i in range(0, N, 2):
        y, x = rng.integers(0, SIZE - 8, 2)
        truth[i, 0, y : y + 8, x : x + 8] = True
    truth[:, 1, 10:20, 12:22] = True
    known = np.ones((N, 2), dtype=bool)
    known[::5, 1] = False
    truth &= known[:, :, None, None]
    maps = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(truth).float(), GRID)
    maps += torch.from_numpy(rng.normal(0, 0.1, maps.shape)).float()
    return Part(truth, known, truth.any((2, 3)), np.arange(N) // 2), maps


@pytest.fixture(scope="module")
def measured():
    parts = [part(seed) for seed in range(3)]
    task = Task(("Lung Lesion", "Heart"), *(p for p, _ in parts), seed=0, replicates=30, level=0.95)
    measurements = [kind(size=SIZE).begin(task) for kind in (Localisation, Segmentation)]
    for measurement in measurements:
        measurement.measure(*(maps for _, maps in parts))
        measurement.repeat()
    return task, *measurements


def test_squares_are_found_without_many_false_alarms(measured) -> None:
    found = measured[1].numbers()
    assert found["headline"] == "froc"
    assert found["refit"]["froc"][0][0] > 0.9
    assert found["refit"]["false_positives"][0][0] < 0.2
    # Anatomy is all there is to know of what is at one place in every picture, and nothing of what is anywhere.
    assert found["trivial"]["prior"]["froc"][1] == 1
    assert found["trivial"]["prior"]["froc"][0] < 0.5
    assert found["trivial"]["empty"]["froc"] == found["trivial"]["empty"]["ap"] == [0, 0]
    for name in ("froc", "ap"):
        low, value, high = (found["refit"][name + end][0][0] for end in ("_low", "", "_high"))
        assert low <= value <= high


def test_the_numbers_follow_from_the_pieces(measured) -> None:
    task, measurement, _ = measured
    kept, numbers = measurement.arrays(), measurement.numbers()
    # What is repeated and what is shared is kept once.
    assert kept["places"].tolist() == [[0, 0], [0, 0]]
    assert not kept["counted"].any()
    assert kept["objects"].sum(0).tolist() == [N / 2, task.test.known[:, 1].sum()]
    assert kept["known"][kept["image"], kept["finding"]].all()
    (found,) = from_arrays(kept, 1)
    once = np.ones((1, N), dtype=int)
    for name, measure in (("froc", froc), ("ap", average_precision), ("false_positives", false_positives)):
        assert measure(found, kept["known"], once)[0].tolist() == numbers["refit"][name][1]


def test_pieces_are_of_what_segmentation_outlines(measured) -> None:
    """Where something is predicted there is a piece, and nowhere else: both cut the same maps at the same threshold."""
    _, localised, segmented = measured
    pieces = np.zeros((N, 2), dtype=bool)
    kept = localised.arrays()
    pieces[kept["image"], kept["finding"]] = True
    assert np.array_equal(pieces, segmented.arrays()["sums"][0, 0, :, :, 1] > 0)
