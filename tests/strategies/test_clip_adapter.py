"""CLIP-Adapter against a hand-worked blend, and where it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from retune import registry

if TYPE_CHECKING:
    from conftest import Lab

ClipAdapter = registry("strategies").load("clip-adapter")


@pytest.mark.parametrize("placement", ["image", "text", "double"])
def test_a_logit_is_the_papers(lab: Lab, placement: str) -> None:
    strategy = lab.make("clip-adapter", placement=placement, start="random", ratio=0.6, temperature=0.05)
    lab.fit(strategy, [lab.experience(strategy, 40, (0, 1), 1)])
    state, images = strategy.state_dict(), lab.pictures(strategy, 10)

    def blend(side: str, vectors: torch.Tensor) -> torch.Tensor:
        given = normalize(vectors, dim=1) * 128**0.5
        if placement not in (side, "double"):
            return given
        down, up = (state[f"adaptor.0.{side}.{layer}.weight"] for layer in ("down", "up"))
        assert (down.shape, up.shape) == ((32, 128), (128, 32))
        return 0.6 * torch.relu(given @ down.T) @ up.T + 0.4 * given

    prompts, v = lab.prompts[True], blend("image", images.features)
    for c in range(len(lab.labels)):
        sides = (prompts.positive[prompts.positive_label == c], prompts.negative[prompts.negative_label == c])
        affirm, deny = (normalize(blend("text", side), dim=1).mean(dim=0) for side in sides)
        expected = (cosine_similarity(v, affirm[None]) - cosine_similarity(v, deny[None])) / 0.05
        torch.testing.assert_close(lab.score(strategy, images)[:, c], expected, rtol=1e-4, atol=1e-4)


def test_training_starts_from_zero_shot_unless_at_random(lab: Lab) -> None:
    def first_scores(start: str) -> torch.Tensor:
        strategy = lab.make("clip-adapter", start=start, lr=1e-12)
        before = lab.score(strategy)
        lab.fit(strategy, [lab.experience(strategy, 20, (0, 1), 1)])
        return (lab.score(strategy) - before).abs().max()

    assert first_scores("zero-shot") < 1e-4
    assert first_scores("random") > 0.1


def test_its_one_adaptor_changes_labels_not_observed_too(lab: Lab) -> None:
    strategy = lab.make("clip-adapter")
    before = lab.score(strategy)
    lab.fit(strategy, [lab.experience(strategy, 40, (0, 1), 1)])
    assert ((lab.score(strategy) - before).abs().amax(dim=0) > 1e-3).all()
    assert strategy.trainable_parameters() == 2 * 128 * 32
