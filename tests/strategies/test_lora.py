"""LoRA on a stream: it starts as zero-shot, trains updates and observed labels alone, and learns."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from sklearn.metrics import roc_auc_score

if TYPE_CHECKING:
    from conftest import Lab


def test_before_training_it_is_the_zero_shot_classifier(lab: Lab) -> None:
    strategy: Any = lab.make("lora")
    pixels = lab.tests(strategy).pixels[torch.arange(lab.tested)]
    vectors = lab.backbone.encode_images(pixels)
    expected = lab.prompts[True].score(vectors, "embeddings", "difference") * 128**0.5
    torch.testing.assert_close(lab.score(strategy), expected, rtol=1e-3, atol=1e-4)
    assert strategy.trainable_parameters() == 0


def test_training_touches_updates_and_the_observed_labels_alone(lab: Lab) -> None:
    strategy: Any = lab.make("lora")
    frozen, started = copy.deepcopy(strategy.tower.state_dict()), strategy.linear.weight.clone()
    lab.fit(strategy, [lab.experience(strategy, 20, (1, 4), 1)])
    changed = {n for n, value in strategy.tower.state_dict().items() if not torch.equal(value, frozen[n])}
    assert changed == set(strategy.updates)
    moved = (strategy.linear.weight != started).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [1, 4]
    state = strategy.state_dict()
    assert set(state) == {"learnt", "weight", "bias", *(f"lora.{name}" for name in strategy.updates)}
    # Rank 8 in the packed projection of two layers of width 32, and six classifiers.
    assert strategy.trainable_parameters() == 2 * 8 * (32 + 96) + 6 * 129
    assert not any(parameter.requires_grad for parameter in strategy.tower.parameters())
    assert not any(module.training for module in strategy.tower.modules())


def test_it_learns(lab: Lab) -> None:
    strategy: Any = lab.make("lora", quick=False)
    test, truth = lab.pictures(strategy, 300, 50), lab.truth(300, 50).numpy()
    before = roc_auc_score(truth, lab.score(strategy, test))
    lab.fit(strategy, [lab.experience(strategy, 1200, range(6), 51)])
    after = roc_auc_score(truth, lab.score(strategy, test))
    assert after > before + 0.05
    assert all(update.abs().max() > 0 for update in strategy.updates.values())
