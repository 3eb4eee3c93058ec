"""Combining prompts, against plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from retune.prompts.embeddings import RULES, Combine, PromptEmbeddings, similarity

N, D, C = 6, 5, 4
GROUPS = [2, 0, 1, 1, 3, 0, 2, 2, 1]  # unsorted, of unequal size, one label with a single prompt


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def reference(images: np.ndarray, prompts: np.ndarray, groups: list[int], n: int, rule: str) -> np.ndarray:
    scores = np.empty((len(images), n))
    for i, image in enumerate(images):
        for label in range(n):
            own = [prompts[p] / np.linalg.norm(prompts[p]) for p in range(len(groups)) if groups[p] == label]
            unit = image / np.linalg.norm(image)
            if rule == "embeddings":
                mean = sum(own) / len(own)
                scores[i, label] = unit @ mean / np.linalg.norm(mean)
            else:
                cosines = [unit @ prompt for prompt in own]
                scores[i, label] = max(cosines) if rule == "max" else sum(cosines) / len(cosines)
    return scores


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_similarity_equals_plain_loops(rule: Combine, dtype: torch.dtype, atol: float) -> None:
    images, prompts = 7 * draw(N, D, dtype=dtype), 3 * draw(len(GROUPS), D, seed=1, dtype=dtype)
    found = similarity(images, prompts, torch.tensor(GROUPS), C, rule)
    assert found.dtype == dtype
    expected = reference(images.double().numpy(), prompts.double().numpy(), GROUPS, C, rule)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=atol)


def test_the_rules_differ() -> None:
    images, prompts = draw(N, D), draw(len(GROUPS), D, seed=1)
    scores = [similarity(images, prompts, torch.tensor(GROUPS), C, rule) for rule in RULES]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(scores[first], scores[second])


def test_the_largest_cosine_may_be_negative() -> None:
    images, prompts = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0], [-1.0, 1.0]])
    score = similarity(images, prompts, torch.tensor([0, 0]), 1, "max")
    torch.testing.assert_close(score, torch.tensor([[-(0.5**0.5)]]))


@pytest.mark.parametrize("rule", RULES)
def test_one_prompt_per_label_makes_the_rules_one(rule: Combine) -> None:
    images, prompts = draw(N, D), draw(C, D, seed=1)
    found = similarity(images, prompts, torch.arange(C), C, rule)
    cosine = torch.nn.functional.cosine_similarity(images[:, None], prompts[None], dim=-1)
    torch.testing.assert_close(found, cosine, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_gradients(rule: Combine) -> None:
    images = draw(3, D).requires_grad_()
    prompts = draw(len(GROUPS), D, seed=1).requires_grad_()
    groups = torch.tensor(GROUPS)
    assert torch.autograd.gradcheck(lambda i, p: similarity(i, p, groups, C, rule), (images, prompts))
    torch.autograd.backward(similarity(images, prompts, groups, C, rule).sum())
    assert images.grad is not None
    assert prompts.grad is not None
    assert images.grad.abs().sum() > 0
    assert prompts.grad.abs().sum() > 0


@pytest.mark.parametrize("rule", RULES)
def test_an_image_does_not_feel_its_batch(rule: Combine) -> None:
    images, prompts, groups = draw(N, D), draw(len(GROUPS), D, seed=1), torch.tensor(GROUPS)
    together = similarity(images, prompts, groups, C, rule)
    crowd = torch.cat([images[:1], 1e6 * draw(N, D, seed=9)])
    torch.testing.assert_close(
        similarity(crowd, prompts, groups, C, rule)[0], together[0], rtol=0, atol=1e-12
    )
    for i in range(N):
        alone = similarity(images[i : i + 1], prompts, groups, C, rule)[0]
        torch.testing.assert_close(alone, together[i], rtol=0, atol=1e-12)
    assert similarity(images[:0], prompts, groups, C, rule).shape == (0, C)


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_prompts_is_of_no_account(rule: Combine) -> None:
    images, prompts, groups = draw(N, D), draw(len(GROUPS), D, seed=1), torch.tensor(GROUPS)
    order = torch.randperm(len(GROUPS), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        similarity(images, prompts[order], groups[order], C, rule),
        similarity(images, prompts, groups, C, rule),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_labels": 6}, r"no prompts for label indices \[4, 5\]"),
        ({"n_labels": 3}, "groups go up to 3, but there are 3 labels"),
        ({"rule": "median"}, "unknown rule 'median'; known: embeddings, scores, max"),
        ({"groups": torch.tensor(GROUPS[1:])}, r"not \(9, 5\) and \(8,\)"),
    ],
)
@pytest.mark.parametrize("rule", RULES)
def test_bad_input_is_refused(rule: Combine, changes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "images": draw(N, D),
        "prompts": draw(len(GROUPS), D, seed=1),
        "groups": torch.tensor(GROUPS),
        "n_labels": C,
        "rule": rule,
    }
    with pytest.raises(ValueError, match=message):
        similarity(**{**given, **changes})


def embeddings() -> PromptEmbeddings:
    return PromptEmbeddings(
        positive=draw(len(GROUPS), D, seed=1),
        positive_label=torch.tensor(GROUPS),
        negative=draw(C, D, seed=2),
        negative_label=torch.arange(C).flip(0),
        labels=("a", "b", "c", "d"),
    )


@pytest.mark.parametrize("rule", RULES)
def test_score(rule: Combine) -> None:
    images, own = draw(N, D), embeddings()
    positive = reference(images.numpy(), own.positive.numpy(), GROUPS, C, rule)
    negative = reference(images.numpy(), own.negative.numpy(), [3, 2, 1, 0], C, rule)
    np.testing.assert_allclose(own.score(images, rule, "positive").numpy(), positive, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        own.score(images, rule, "difference").numpy(), positive - negative, rtol=0, atol=1e-12
    )


def test_negatives_are_needed_for_the_difference_only() -> None:
    own = embeddings()
    bare = PromptEmbeddings(
        own.positive, own.positive_label, own.negative[:0], own.negative_label[:0], own.labels
    )
    assert bare.score(draw(N, D), "max", "positive").shape == (N, C)
    with pytest.raises(ValueError, match="no prompts for label indices"):
        bare.score(draw(N, D), "max", "difference")


def test_an_unknown_scoring_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown scoring 'ratio'; known: difference, positive"):
        embeddings().score(draw(N, D), "max", "ratio")  # type: ignore[arg-type]


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_embeddings_and_labels_must_fit(side: str) -> None:
    own = embeddings()
    fields = {
        name: getattr(own, name) for name in ("positive", "positive_label", "negative", "negative_label")
    }
    with pytest.raises(ValueError, match=side):
        PromptEmbeddings(**{**fields, f"{side}_label": fields[f"{side}_label"][1:]}, labels=own.labels)


def test_map_passes_both_sides_through() -> None:
    own, layer = embeddings(), torch.nn.Linear(D, 3, dtype=torch.float64)
    mapped = own.map(layer)
    torch.testing.assert_close(mapped.positive, layer(own.positive))
    torch.testing.assert_close(mapped.negative, layer(own.negative))
    assert mapped.positive_label is own.positive_label
    assert mapped.negative_label is own.negative_label
    assert mapped.labels == own.labels
    assert own.positive.shape == (len(GROUPS), D)
    score = mapped.score(draw(N, 3), "embeddings", "difference").sum()
    for grad in torch.autograd.grad(score, [mapped.positive, mapped.negative, layer.weight]):
        assert grad.abs().sum() > 0


def test_some_labels_alone_are_scored_as_among_all() -> None:
    own, images = embeddings(), draw(N, D)
    for columns in ([2], [3, 0], [0, 1, 2, 3]):
        alone = own.of(columns)
        assert alone.labels == tuple("abcd"[c] for c in columns)
        for rule in RULES:
            torch.testing.assert_close(
                alone.score(images, rule, "difference"), own.score(images, rule, "difference")[:, columns]
            )
