"""What is metered of past patients."""

from __future__ import annotations

import torch

from retune.memory import Stored, metered


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
