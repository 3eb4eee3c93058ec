"""Effective rank and correlation of latents whose geometry is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from retune.strategies.m_flag import effective_rank, geometry, off_diagonal_correlation


def orthonormal(n: int, k: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(values).Q


@pytest.mark.parametrize(
    ("singular", "rank"),
    [
        ([1, 1, 1, 1], 4.0),
        ([5, 5, 5, 0], 3.0),
        ([7, 0, 0, 0], 1.0),
        ([0, 0, 0, 0], 0.0),
        # p = 1/2, 1/4, 1/4: the entropy is 1.5 log 2.
        ([2, 1, 1, 0], 2**1.5),
        # p = 3/4, 1/4.
        ([3, 1, 0, 0], math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4))),
    ],
)
def test_effective_rank_of_known_singular_values(singular: list[float], rank: float) -> None:
    values = torch.tensor(singular, dtype=torch.float64)
    latent = orthonormal(50, 4) @ torch.diag(values) @ orthonormal(4, 4, seed=1).T
    assert effective_rank(latent) == pytest.approx(rank, rel=1e-6)
    assert effective_rank(1e-4 * latent) == pytest.approx(rank, rel=1e-6)
    assert effective_rank(latent.T) == pytest.approx(rank, rel=1e-6)


def test_rows_are_not_centred_for_the_rank_but_for_the_correlation() -> None:
    latent = orthonormal(200, 5) * 200**0.5
    moved = latent + 1000
    assert effective_rank(latent) == pytest.approx(5)
    assert effective_rank(moved) < 1.1
    assert off_diagonal_correlation(moved) == pytest.approx(off_diagonal_correlation(latent), abs=1e-9)


def test_correlation_is_numpy_s() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)) + 3
    matrix = np.abs(np.corrcoef(values.T))
    expected = np.mean([matrix[i, j] for i in range(6) for j in range(6) if i != j])
    assert off_diagonal_correlation(torch.from_numpy(values)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("columns", "correlation"),
    [
        ([[1, 2, 3, 4], [2, 4, 6, 8]], 1.0),
        ([[1, 2, 3, 4], [-1, -2, -3, -4]], 1.0),
        ([[1, 1, -1, -1], [1, -1, 1, -1]], 0.0),
        # The third dimension is the same for every image, and left out.
        ([[1, 2, 3, 4], [4, 3, 2, 1], [5, 5, 5, 5]], 1.0),
        # r = 1 / sqrt 2 and 0: pairs (1, 2) and (2, 3) and (1, 3).
        ([[1, 1, -1, -1], [1, 0, 0, -1], [1, -1, 1, -1]], (2**-0.5 + 2**-0.5 + 0) / 3),
    ],
)
def test_correlation_of_known_dimensions(columns: list[list[float]], correlation: float) -> None:
    latent = torch.tensor(columns, dtype=torch.float32).T
    assert off_diagonal_correlation(latent) == pytest.approx(correlation, abs=1e-9)


@pytest.mark.parametrize(
    "latent", [torch.ones(1, 3), torch.ones(4, 3), torch.eye(4)[:, :1], torch.zeros(0, 3)]
)
def test_a_correlation_that_is_not_defined(latent: torch.Tensor) -> None:
    assert math.isnan(off_diagonal_correlation(latent))
    described = geometry(latent)
    assert described["off_diagonal_correlation"] is None
    assert (described["measured_images"], described["latent_dimensions"]) == latent.shape
    assert described["effective_rank"] == pytest.approx(float(len(latent) > 0))
