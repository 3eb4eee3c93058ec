"""M-FLAG's two losses against hand-worked values, explicit loops and numerical gradients."""

from __future__ import annotations

import math

import pytest
import torch
from retune.strategies.m_flag import alignment, geometry, orthogonality


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_alignment_by_hand() -> None:
    images = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [1.0, 0.0]])
    texts = torch.tensor([[5.0, 0.0], [1.0, 0.0], [0.0, 2.0], [-4.0, 0.0]])
    # cos = 1, 0, 1 / sqrt 2, -1; each pair counts in both directions.
    expected = [0, 4, 4 - 4 / math.sqrt(2), 8]
    assert alignment(images, texts).item() == pytest.approx(sum(expected) / 4, abs=1e-6)
    for row, value in enumerate(expected):
        assert alignment(images[row, None], texts[row, None]).item() == pytest.approx(value, abs=1e-6)


def test_alignment_is_the_squared_distance_in_both_directions() -> None:
    images, texts = drawn(7, 5), drawn(7, 5, seed=1)
    total = 0.0
    for v, t in zip(images.tolist(), texts.tolist(), strict=True):
        lengths = math.hypot(*v), math.hypot(*t)
        there = sum((a / lengths[0] - b / lengths[1]) ** 2 for a, b in zip(v, t, strict=True))
        back = sum((b / lengths[1] - a / lengths[0]) ** 2 for a, b in zip(v, t, strict=True))
        total += there + back
    assert alignment(images, texts).item() == pytest.approx(total / 7, rel=1e-12)
    assert alignment(texts, images).item() == pytest.approx(total / 7, rel=1e-12)


def test_no_gradient_is_stopped_on_either_side() -> None:
    images, texts = drawn(3, 4).requires_grad_(), drawn(3, 4, seed=1).requires_grad_()
    alignment(images, texts).backward()
    for side in (images, texts):
        assert side.grad is not None
        assert (side.grad.abs().sum(1) > 0).all()


def test_orthogonality_by_hand() -> None:
    # Z'Z / 2 = [[5, 7], [7, 10]]: (16 + 81) on the diagonal, 2 * 49 off it.
    latent = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert orthogonality(latent).item() == pytest.approx((97 + 0.0051 * 98) / 2, rel=1e-6)
    assert orthogonality(latent, 1.0).item() == pytest.approx((97 + 98) / 2, rel=1e-6)


def test_orthogonality_of_one_image_and_of_none_of_it() -> None:
    # C = [[4, 6], [6, 9]].
    one = orthogonality(torch.tensor([[2.0, 3.0]])).item()
    assert one == pytest.approx((9 + 64 + 0.0051 * 72) / 2, rel=1e-6)
    # A whitened latent costs nothing, a collapsed one half of its dimension.
    assert orthogonality(torch.eye(4) * 2).item() == pytest.approx(0, abs=1e-12)
    assert orthogonality(torch.zeros(5, 6)).item() == 3


@pytest.mark.parametrize(("n", "dim"), [(1, 3), (4, 7), (9, 2)])
def test_orthogonality_by_explicit_loops(n: int, dim: int) -> None:
    latent = drawn(n, dim) + 0.5
    diagonal = apart = 0.0
    for i in range(dim):
        for j in range(dim):
            c = sum(latent[k, i].item() * latent[k, j].item() for k in range(n)) / n
            if i == j:
                diagonal += (c - 1) ** 2
            else:
                apart += c**2
    assert orthogonality(latent).item() == pytest.approx((diagonal + 0.0051 * apart) / 2, rel=1e-12)


def test_gradients_are_the_numerical_ones() -> None:
    images, texts = drawn(4, 3).requires_grad_(), drawn(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(alignment, (images, texts))
    for latent in (images, drawn(1, 3).requires_grad_(), drawn(3, 6).requires_grad_()):
        assert torch.autograd.gradcheck(orthogonality, (latent,))


def test_a_whole_number_of_copies_changes_nothing() -> None:
    """Both are means over the batch, whatever its size."""
    images, texts = drawn(4, 3), drawn(4, 3, seed=1)
    torch.testing.assert_close(alignment(images.repeat(3, 1), texts.repeat(3, 1)), alignment(images, texts))
    torch.testing.assert_close(orthogonality(images.repeat(3, 1)), orthogonality(images))


def test_descending_orthogonality_makes_dimensions_independent() -> None:
    """Two directions, repeated over six dimensions, become six that do not repeat each other."""
    latent = drawn(64, 2) @ drawn(2, 6, seed=1) + 0.1 * drawn(64, 6, seed=2)
    learnt = latent.clone().requires_grad_()
    optimizer = torch.optim.Adam([learnt], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        orthogonality(learnt).backward()
        optimizer.step()
    before, after = geometry(latent), geometry(learnt)
    assert before["effective_rank"] < 3
    assert after["effective_rank"] > 5.9
    assert after["off_diagonal_correlation"] < 0.1 < 0.4 < before["off_diagonal_correlation"]
    torch.testing.assert_close(learnt.square().mean(0), torch.ones(6, dtype=torch.float64), rtol=0, atol=0.01)
