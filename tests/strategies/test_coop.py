"""CoOp: what a logit is, and what its two kinds of context do to labels not observed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn.functional import normalize

from retune import registry

if TYPE_CHECKING:
    from conftest import Lab

CoOp = registry("strategies").load("coop")
BASE = "Chest radiograph with findings of"


@pytest.mark.parametrize("contexts", ["unified", "class-specific"])
def test_a_context_that_has_not_moved_is_its_base(lab: Lab, contexts: str) -> None:
    everything = tuple(range(len(lab.labels)))
    share = 0.25
    strategy = lab.make(
        "coop", contexts=contexts, context_length=None, lr=1e-9, temperature=0.05, zero_shot_share=share
    )
    lab.fit(strategy, [lab.experience(strategy, 8, everything, 1)])
    images = lab.pictures(strategy, 10)
    zero_shot = lab.prompts[True].score(images.features, "embeddings", "difference") / 0.05
    said = [f"{BASE} {no}{label.lower()}" for no in ("", "no ") for label in lab.labels]
    affirm, deny = normalize(lab.backbone.encode_texts(said), dim=1).chunk(2)
    expected = normalize(images.features, dim=1) @ (affirm - deny).T / 0.05
    expected = (1 - share) * expected + share * zero_shot
    torch.testing.assert_close(lab.score(strategy, images), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("contexts", "words"), [("unified", 4), ("class-specific", 4 * 2 * 2)])
def test_what_labels_not_observed_feel(lab: Lab, contexts: str, words: int) -> None:
    strategy = lab.make("coop", contexts=contexts)
    zero_shot = lab.score(strategy)
    first, second, _ = lab.stream(strategy)
    before = lab.scores_after(strategy, [first])
    assert strategy.trainable_parameters() == words * 128
    after = lab.scores_after(strategy, [second])
    apart = contexts == "class-specific"
    assert torch.equal(before[:, 4], zero_shot[:, 4]) is apart
    assert torch.equal(before[:, 0], after[:, 0]) is apart
    assert not torch.equal(before[:, 2], after[:, 2])


def test_random_words_come_from_the_experience_s_generator(lab: Lab) -> None:
    strategy = lab.make("coop", contexts="unified", start="random", context_length=16, lr=1e-12)
    part = lab.experience(strategy, 8, (0,), 1)
    lab.fit(strategy, [part])
    expected = 0.02 * torch.randn(16, 128, generator=part.generator())
    torch.testing.assert_close(strategy.state_dict()["words"], expected, rtol=0, atol=1e-6)


def test_the_tower_gets_no_gradients(lab: Lab) -> None:
    strategy = lab.make("coop")
    lab.fit(strategy, lab.stream(strategy))
    assert all(p.grad is None for p in lab.backbone.text_path().module.parameters())
    assert strategy.words.grad is not None
