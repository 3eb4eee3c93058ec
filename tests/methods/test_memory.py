"""What is kept of past patients, how evenly, and how much of it is metered."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retune.methods.memory import SampleMemory, Stored, metered


def test_counts_rows_and_bytes_of_what_is_kept() -> None:
    state = {
        "weight": torch.zeros(1000, 1000),
        "memory.features": torch.zeros(20, 128),
        "memory.targets": torch.zeros(20, 14),
        "memory.patients": torch.zeros(20, dtype=torch.int64),
        "memory.seen": 400,
    }
    assert metered(state) == Stored(0, 20, 20 * 128 * 4 + 20 * 14 * 4 + 20 * 8)
    assert metered({"memory.pixels": torch.zeros(3, 8, 8, dtype=torch.uint8)}) == Stored(3, 0, 192)
    assert metered({"memory.tokens": torch.zeros(5, 4, 2)}) == Stored(0, 5, 160)
    assert metered({"weight": torch.zeros(3)}) == Stored()


def test_the_most_of_two_moments() -> None:
    assert Stored(3, 0, 192).most(Stored(0, 5, 160)) == Stored(3, 5, 192)


def memory(capacity: int, seed: int = 0) -> SampleMemory:
    """Of one feature, which tells samples apart, and two labels."""
    return SampleMemory(capacity, seed, features=torch.zeros(0, 1), targets=torch.zeros(0, 2))


def offer(kept: SampleMemory, patients: list[int], seed: int = 1, first: int = 0) -> SampleMemory:
    """Samples of these patients, numbered from ``first``."""
    numbers = torch.arange(first, first + len(patients)).float()[:, None]
    targets = torch.full((len(patients), 2), torch.nan)
    generator = torch.Generator().manual_seed(seed)
    kept.add(torch.tensor(patients), generator, targets=targets, features=numbers)
    return kept


def shares(kept: SampleMemory) -> dict[int, int]:
    """How many samples each patient has."""
    patients, counts = kept["patients"].unique(return_counts=True)
    return dict(zip(patients.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize(
    ("patients", "capacity", "expected"),
    [
        ([0] * 9 + [1] * 2 + [2], 20, {0: 9, 1: 2, 2: 1}),
        # One of each, one more of two: 2 of the remaining 3 places go to patient 0.
        ([0] * 9 + [1] * 2 + [2], 6, {0: 3, 1: 2, 2: 1}),
        ([0] * 9 + [1] * 2 + [2], 3, {0: 1, 1: 1, 2: 1}),
        ([5] * 4, 2, {5: 2}),
        ([], 2, {}),
    ],
)
def test_no_patient_has_more_than_a_fair_share(
    patients: list[int], capacity: int, expected: dict[int, int]
) -> None:
    assert shares(offer(memory(capacity), patients)) == expected


def test_a_patient_who_comes_back_adds_and_shares_the_places() -> None:
    kept = offer(memory(6), [0] * 3 + [1] * 3)
    assert shares(kept) == {0: 3, 1: 3}
    offer(kept, [0] * 5 + [2], first=10)
    # All three have had a turn before anybody has a third; patient 2 has but one sample.
    assert shares(kept)[2] == 1
    assert sorted(shares(kept).values()) == [1, 2, 3]


@pytest.mark.parametrize("capacity", [1, 4, 11, 40])
def test_what_is_kept_does_not_depend_on_how_samples_were_parted(capacity: int) -> None:
    patients = np.random.default_rng(3).integers(0, 9, 40).tolist()
    whole = offer(memory(capacity), patients)
    parted, generator = memory(capacity), torch.Generator().manual_seed(1)
    for part in torch.arange(40).split([7, 1, 20, 12]):
        parted.add(
            torch.tensor(patients)[part],
            generator,
            targets=torch.full((len(part), 2), torch.nan),
            features=part.float()[:, None],
        )
    assert sorted(parted["features"].flatten().tolist()) == sorted(whole["features"].flatten().tolist())


def test_patients_and_their_samples_have_the_same_chance() -> None:
    """A hundred patients have eight samples and 700 have one: there are places for a quarter of them all."""
    patients = [patient for patient in range(100) for _ in range(8)] + list(range(100, 800))
    drawn = [offer(memory(200, seed), patients, seed + 1000) for seed in range(20)]
    assert all(len(shares(kept)) == 200 for kept in drawn)
    of_many = torch.cat([kept["features"][kept["patients"] < 100] for kept in drawn]).flatten()
    assert len(of_many) / 20 == pytest.approx(25, abs=3)
    which = (of_many % 8).long().bincount(minlength=8) / len(of_many)
    torch.testing.assert_close(which, torch.full((8,), 1 / 8), rtol=0, atol=0.04)


def test_targets_come_back_as_they_were_and_only_unknown_ones_are_filled() -> None:
    kept = memory(3)
    targets = torch.tensor([[1.0, torch.nan], [0.0, 1.0], [torch.nan, 0.0]])
    kept.add(torch.tensor([4, 5, 6]), torch.Generator(), targets=targets, features=torch.arange(3.0)[:, None])
    torch.testing.assert_close(kept["targets"], targets, equal_nan=True)
    kept.fill(torch.tensor([[0.0, torch.nan], [1.0, 0.0], [1.0, 1.0]]))
    filled = torch.tensor([[1.0, torch.nan], [0.0, 1.0], [1.0, 0.0]])
    torch.testing.assert_close(kept["targets"], filled, equal_nan=True)


def test_state_is_finite_metered_and_taken_up_again() -> None:
    kept, again = offer(memory(5), [0, 0, 1, 2, 3, 3, 3]), memory(5)
    state = kept.state()
    assert all(key.startswith("memory.") and tensor.isfinite().all() for key, tensor in state.items())
    assert metered(state) == Stored(0, 5, 5 * (4 + 2 + 8 + 8))
    again.load(state)
    offer(kept, [7, 7, 0], seed=2, first=20)
    offer(again, [7, 7, 0], seed=2, first=20)
    assert torch.equal(again["features"], kept["features"])
    # What was taken before is not changed by what came after.
    assert len(state["memory.features"]) == 5
    assert state["memory.features"].max() < 20


def test_draws_are_of_what_is_kept_and_repeat_with_the_generator() -> None:
    kept = offer(memory(3), [0, 1, 2])
    one, two = (kept.draw(100, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(one, two)
    assert set(one.tolist()) == {0, 1, 2}
    assert len(memory(3).draw(100, torch.Generator())) == 0
