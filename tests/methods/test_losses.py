"""Losses against hand-worked values and against formulations by explicit loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from retune.methods.losses import info_nce


def unit(rows: int, dim: int, seed: int) -> torch.Tensor:
    """Random rows of length 1 in double precision."""
    values = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(values, dim=1)


def looped_info_nce(
    images: torch.Tensor, texts: torch.Tensor, scale: float, caption: list[int], text_weight: float
) -> float:
    """Sums and logarithms pair by pair, in plain Python."""
    n, total = len(images), 0.0
    for i in range(n):
        rivals = [j for j in range(n) if j == i or caption[j] != caption[i]]
        own = math.exp(scale * float(images[i] @ texts[i]))
        among_images = sum(math.exp(scale * float(images[j] @ texts[i])) for j in rivals)
        among_texts = sum(math.exp(scale * float(images[i] @ texts[j])) for j in rivals)
        total -= text_weight * math.log(own / among_images)
        total -= (1 - text_weight) * math.log(own / among_texts)
    return total / n


class TestInfoNce:
    def test_hand_worked(self) -> None:
        # Texts e1 and e2, images e1 and (e1 + e2)/sqrt 2, at scale ln 2 * sqrt 2: the exponentials are
        # image 1: q and 1 with q = 2^sqrt 2 = 2.665144; image 2: 2 and 2.
        images = torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5]])
        texts = torch.eye(2)
        scale = math.log(2) * 2**0.5
        to_text = (math.log(3.665144 / 2.665144) + math.log(2)) / 2  # .505852
        to_image = (math.log(4.665144 / 2.665144) + math.log(3 / 2)) / 2  # .482680
        for weight, expected in ((0.0, to_text), (1.0, to_image), (0.75, 0.75 * to_image + 0.25 * to_text)):
            found = info_nce(images, texts, scale, text_weight=weight)
            assert found.item() == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("caption", [[0, 1, 2, 3, 4], [0, 1, 0, 2, 1], [3, 3, 3, 1, 3]])
    @pytest.mark.parametrize("text_weight", [0.5, 0.75])
    def test_equals_explicit_loops(self, caption: list[int], text_weight: float) -> None:
        images, texts = unit(5, 4, 0), unit(5, 4, 1)[caption]
        found = info_nce(images, texts, 7.0, caption=torch.tensor(caption), text_weight=text_weight)
        expected = looped_info_nce(images, texts, 7.0, caption, text_weight)
        assert found.item() == pytest.approx(expected, abs=1e-10)

    def test_without_captions_all_others_are_negatives(self) -> None:
        images, texts = unit(4, 3, 2), unit(4, 3, 3)
        assert torch.equal(
            info_nce(images, texts, 5.0), info_nce(images, texts, 5.0, caption=torch.arange(4))
        )

    def test_a_pair_of_the_same_caption_is_no_negative(self) -> None:
        # Images e1, e1 and e2; the first two share the text e1. At scale ln 3, left to themselves each is
        # surely right against e2 alone: 3 against 1. The third has both of them against it.
        images = texts = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        alike = torch.tensor([9, 9, 2])
        expected = (2 * math.log(4 / 3) + math.log(5 / 3)) / 3
        assert info_nce(images, texts, math.log(3), caption=alike).item() == pytest.approx(expected, abs=1e-6)
        apart = (2 * math.log(7 / 3) + math.log(5 / 3)) / 3
        assert info_nce(images, texts, math.log(3)).item() == pytest.approx(apart, abs=1e-6)

    def test_one_caption_teaches_nothing(self) -> None:
        images = unit(4, 3, 6).requires_grad_()
        loss = info_nce(images, unit(1, 3, 7).expand(4, 3), 5.0, caption=torch.zeros(4, dtype=torch.int64))
        loss.backward()
        assert loss.item() == 0
        assert images.grad is not None
        assert not images.grad.any()

    def test_gradients(self) -> None:
        images, texts = unit(5, 3, 8).requires_grad_(), unit(5, 3, 9).requires_grad_()
        scale = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
        caption = torch.tensor([0, 1, 0, 2, 1])
        assert torch.autograd.gradcheck(
            lambda i, t, s: info_nce(i, t, s, caption=caption, text_weight=0.75), (images, texts, scale)
        )
