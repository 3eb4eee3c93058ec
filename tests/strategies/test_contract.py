"""What every strategy must keep to; a new file under strategies/ is tested by existing."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import numpy as np
import pytest
import torch

from retune import Context, Images, Strategy, Training, registry
from retune.adaptors import normalised
from retune.plugins import registry as plugin_registry
from retune.prompts.combine import PromptEmbeddings

LABELS = ("A", "B", "C", "D", "E", "F")
DIM = 16
NAMES = plugin_registry("strategies").names()


def context() -> Context:
    """Three positive and three negative prompts per label, in a made-up joint space."""
    generator = torch.Generator().manual_seed(5)
    index = torch.arange(len(LABELS)).repeat_interleave(3)
    sides = [torch.randn(len(index), DIM, generator=generator) for _ in range(2)]
    return Context(LABELS, DIM, PromptEmbeddings(sides[0], index, sides[1], index, LABELS), 7)


def pictures(n: int, seed: int = 0) -> Images:
    """Made-up features whose signs carry the labels."""
    features = torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed))
    return Images(n, {"features": lambda: features.clone()})


def experience(n: int, observed: tuple[int, ...], seed: int) -> Training:
    """Made-up targets that the features explain, masked outside ``observed``."""
    images = pictures(n, seed)
    truth = (images.features[:, : len(LABELS)] > 0).float()
    targets = torch.full_like(truth, float("nan"))
    targets[:, list(observed)] = truth[:, list(observed)]
    return Training(images, targets, observed, 1000 + seed)


def stream() -> list[Training]:
    return [experience(60, (0, 1), 1), experience(50, (2, 3), 2), experience(40, (1, 4, 5), 3)]


def made(name: str) -> Strategy:
    strategy: Strategy = registry("strategies").load(name)()
    strategy.setup(context())
    return strategy


def scores_after(strategy: Strategy, seen: list[Training]) -> torch.Tensor:
    for part in seen:
        strategy.fit(part)
    return strategy.score(pictures(30, seed=99))


@pytest.mark.parametrize("name", NAMES)
class TestEveryStrategy:
    def test_scores_every_label_at_every_moment(self, name: str) -> None:
        strategy = made(name)
        for part in [None, *stream()]:
            if part is not None:
                strategy.fit(part)
            scores = strategy.score(pictures(30, seed=99))
            assert scores.shape == (30, len(LABELS))
            assert torch.isfinite(scores).all()

    def test_starts_as_zero_shot(self, name: str) -> None:
        before = made(name).score(pictures(30))
        prompts = context().prompts.score(pictures(30).features, "embeddings", "difference")
        ranks = [np.argsort(np.argsort(s.numpy(), axis=0), axis=0) for s in (before, prompts)]
        assert np.array_equal(ranks[0], ranks[1])

    def test_same_seed_same_scores(self, name: str) -> None:
        first, second = (scores_after(made(name), stream()) for _ in range(2))
        assert torch.equal(first, second)

    def test_resumed_equals_uninterrupted(self, name: str) -> None:
        whole = scores_after(made(name), stream())
        begun = made(name)
        scores_after(begun, stream()[:2])
        state = copy.deepcopy(begun.state_dict())
        plain = {k: v for k, v in state.items() if not isinstance(v, torch.Tensor)}
        assert json.loads(json.dumps(plain)) == plain
        resumed = made(name)
        resumed.load_state_dict(state)
        assert torch.equal(scores_after(resumed, stream()[2:]), whole)

    def test_unknown_labels_have_no_influence(self, name: str) -> None:
        masked = stream()
        for part in masked:
            part.targets[: len(part) // 2, part.observed[0]] = float("nan")
        reference = scores_after(made(name), masked)
        # A NaN of another bit pattern is still a NaN.
        flipped = copy.deepcopy(masked)
        for part in flipped:
            part.targets[torch.isnan(part.targets)] = -float("nan")
        assert torch.equal(scores_after(made(name), flipped), reference)

    def test_a_score_does_not_depend_on_batch_mates(self, name: str) -> None:
        strategy = made(name)
        together = scores_after(strategy, stream())
        features = pictures(30, seed=99).features
        alone = torch.cat(
            [strategy.score(Images(1, {"features": lambda i=i: features[i : i + 1]})) for i in range(30)]
        )
        torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("n", [1, 2])
    def test_takes_tiny_experiences(self, name: str, n: int) -> None:
        strategy = made(name)
        strategy.fit(experience(n, (0, 1), 1))
        assert torch.isfinite(strategy.score(pictures(5))).all()

    def test_takes_labels_with_one_class(self, name: str) -> None:
        part = experience(20, (0, 1), 1)
        part.targets[:, 0], part.targets[:, 1] = 0.0, 1.0
        strategy = made(name)
        strategy.fit(part)
        assert torch.isfinite(strategy.score(pictures(5))).all()

    def test_changes_nothing_global(self, name: str) -> None:
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
        python_state, settings = random.getstate(), (torch.get_default_dtype(), torch.get_num_threads())
        scores_after(made(name), stream())
        assert torch.equal(torch.get_rng_state(), torch_state)
        assert np.array_equal(np.random.get_state()[1], numpy_state)  # type: ignore[index]
        assert random.getstate() == python_state
        assert (torch.get_default_dtype(), torch.get_num_threads()) == settings

    def test_leaves_its_targets_alone(self, name: str) -> None:
        parts = stream()
        before = [part.targets.clone() for part in parts]
        scores_after(made(name), parts)
        assert all(
            torch.equal(a, p.targets) or torch.equal(torch.isnan(a), torch.isnan(p.targets))
            for a, p in zip(before, parts, strict=True)
        )
        assert all(
            torch.equal(a.nan_to_num(2), p.targets.nan_to_num(2)) for a, p in zip(before, parts, strict=True)
        )

    def test_says_what_it_is(self, name: str) -> None:
        strategy = made(name)
        assert strategy.name == name
        assert strategy.version
        scores_after(strategy, stream())
        stored = strategy.stored()
        assert (stored == (0, 0)) is not strategy.keeps_samples

    def test_learns_unless_it_is_zero_shot(self, name: str) -> None:
        strategy = made(name)
        test = experience(1000, tuple(range(6)), 50)
        before = strategy.score(test.images)
        strategy.fit(experience(3000, tuple(range(6)), 51))
        after = strategy.score(test.images)
        if strategy.trainable_parameters() == 0:
            assert torch.equal(before, after)
        else:
            from sklearn.metrics import roc_auc_score

            assert roc_auc_score(test.targets, after) > roc_auc_score(test.targets, before) + 0.05


def test_features_must_be_declared() -> None:
    images = Images(3, {})
    with pytest.raises(Exception, match="without declaring it"):
        _ = images.features


def test_normalised_rows_have_length_root_d() -> None:
    rows: Any = normalised(torch.randn(4, 9, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(rows.norm(dim=1), torch.full((4,), 3.0))
