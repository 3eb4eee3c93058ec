"""What every transfer must keep to, whoever brings it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from retune.plugins import registry
from retune.results.result import MetricRecord, TransferRecord
from retune.transfers.base import Measurement, Part, Task, Transfer

N, SIZE, GRID = 40, 32, 8


def part(seed: int) -> tuple[Part, torch.Tensor]:
    """Squares in two of three pictures, unknown in one of five, and maps that show them through noise."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((N, 2, SIZE, SIZE), dtype=bool)
    for i in range(N):
        for k in range(2):
            y, x = rng.integers(0, SIZE - 12, 2)
            truth[i, k, y : y + 12, x : x + 12] = (i + k) % 3 > 0
    known = np.ones((N, 2), dtype=bool)
    known[::5, 1] = False
    seen = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(truth).float(), GRID)
    maps = torch.cat([seen, torch.zeros(N, 3, GRID, GRID)], 1)
    maps += torch.from_numpy(rng.normal(0, 0.2, maps.shape)).float()
    truth &= known[:, :, None, None]
    return Part(truth, known, truth.any((2, 3)), np.arange(N) // 2), maps


@pytest.fixture(params=registry("transfers").names())
def transfer(request: pytest.FixtureRequest) -> Transfer:
    return registry("transfers").load(request.param)(size=SIZE)


@pytest.fixture(scope="module")
def made():
    parts = [part(seed) for seed in range(3)]
    task = Task(("Lung Lesion", "Edema"), *(p for p, _ in parts), seed=0, replicates=30, level=0.95)
    return task, [maps for _, maps in parts]


def ruined(maps: list[torch.Tensor]) -> list[torch.Tensor]:
    return [
        torch.cat([torch.randn(m[:, :1].shape, generator=torch.Generator().manual_seed(1)), m[:, 1:]], 1)
        for m in maps
    ]


def told(measurement: Measurement) -> str:
    return json.dumps(measurement.numbers(), default=lambda array: array.tolist(), sort_keys=True)


def test_what_is_measured_fits_into_a_result(transfer: Transfer, made) -> None:
    task, maps = made
    measurement = transfer.begin(task)
    measurement.measure(*maps)
    measurement.repeat()
    measurement.measure(*ruined(maps))
    found = measurement.numbers()
    replicates = found.pop("replicates")
    assert set(found) <= set(TransferRecord.model_fields)
    assert {values.shape for values in replicates.values()} == {(task.replicates,)}
    assert (
        set(found["metrics"])
        == set(replicates)
        == {"dense_final", "dense_transfer", "dense_forgetting", "head_drift"}
    )
    for name in (found["headline"], f"{found['headline']}_low", f"{found['headline']}_high"):
        for probe in ("refit", "kept"):
            assert np.shape(found[probe][name]) == (3, 2)
    for metric in found["metrics"].values():
        assert MetricRecord.model_validate(metric).low <= metric["value"] <= metric["high"]
    assert {"empty", "prior"} <= set(found["trivial"])
    value, low, high = (np.array(found["refit"][found["headline"] + end]) for end in ("", "_low", "_high"))
    assert ((low <= value) & (value <= high)).all()
    # The first moment once more is the first moment; a ruined channel is a finding that is lost, and it alone.
    assert (value[0] == value[1]).all()
    assert value[2, 0] < value[1, 0] - 0.1
    assert abs(value[2, 1] - value[1, 1]) < 0.05
    assert found["metrics"]["dense_forgetting"]["value"] > 0.05
    assert (np.array(found["trivial"]["empty"][found["headline"]]) == 0).all()


def test_what_is_taken_up_goes_on_to_the_same_bit(transfer: Transfer, made) -> None:
    task, maps = made
    whole, resumed = transfer.begin(task), transfer.begin(task)
    whole.measure(*maps)
    state = {key: value.clone() for key, value in whole.state().items()}
    whole.measure(*ruined(maps))
    resumed.load(state)
    resumed.measure(*ruined(maps))
    assert told(whole) == told(resumed)
    ours, theirs = whole.arrays(), resumed.arrays()
    assert all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)


def test_an_image_is_measured_on_its_own(transfer: Transfer, made) -> None:
    task, maps = made
    every = transfer.begin(task)
    every.measure(*maps)
    half = np.arange(N // 2)
    some = Part(
        task.test.masks[half],
        *(a[half] for a in (task.test.known, task.test.present, task.test.patients)),
    )
    without = transfer.begin(Task(task.findings, task.train, task.valid, some, 0, 30, 0.95))
    without.measure(maps[0], maps[1], maps[2][half])
    for name, array in without.arrays().items():
        where = next((axis for axis, n in enumerate(array.shape) if n == len(half)), None)
        if where is not None:
            assert np.array_equal(array, np.take(every.arrays()[name], half, axis=where)), name


def test_maps_of_another_width_start_anew(transfer: Transfer, made) -> None:
    task, maps = made
    measurement = transfer.begin(task)
    measurement.measure(*maps)
    measurement.measure(*(m[:, :2] for m in maps))
    measurement.measure(*(m[:, :2] for m in maps))
    kept = measurement.numbers()["kept"][measurement.numbers()["headline"]]
    assert np.isnan(np.array(kept[0], dtype=float)).all()
    assert kept[1] == kept[2]
