"""Projections: a joint space keeps its cosines, unjoined ones start at random."""

from __future__ import annotations

import pytest
import torch
from retune.strategies.cleft import Projections
from torch.nn.functional import cosine_similarity


def vectors(n: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def made(image: int, text: int, width: int, seed: int = 0, *, alike: bool = False) -> Projections:
    return Projections(image, text, width, alike=alike, generator=torch.Generator().manual_seed(seed))


def cosines(heads: Projections, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    return (heads.project("image", images) * heads.project("text", texts)).sum(dim=1)


@pytest.mark.parametrize("width", [24, 64])
def test_alike_they_keep_cosines(width: int) -> None:
    images, texts = vectors(9, 24, 1), vectors(9, 24, 2)
    expected = cosine_similarity(images, texts)
    torch.testing.assert_close(cosines(made(24, 24, width, alike=True), images, texts), expected)
    assert (cosines(made(24, 24, width), images, texts) - expected).abs().max() > 0.05


def test_from_a_wider_space_they_keep_right_angles_of_what_is_left() -> None:
    weight = made(24, 24, 8, alike=True).image.weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(8), rtol=0, atol=1e-5)


def test_they_start_alike_but_are_two() -> None:
    heads = made(24, 24, 32, alike=True)
    assert torch.equal(heads.image.weight, heads.text.weight)
    with torch.no_grad():
        heads.image.weight.zero_()
    assert heads.text.weight.abs().max() > 0


def test_temperature_starts_at_seven_hundredths_and_has_a_floor() -> None:
    heads = made(4, 5, 6)
    assert heads.inverse_temperature().item() == pytest.approx(1 / 0.07, rel=1e-6)
    with torch.no_grad():
        heads.scale.fill_(9.0)
    assert heads.inverse_temperature().item() == 100


def test_spaces_of_different_dimensions_cannot_start_alike() -> None:
    with pytest.raises(ValueError, match="images of 4 and texts of 5"):
        made(4, 5, 6, alike=True)
