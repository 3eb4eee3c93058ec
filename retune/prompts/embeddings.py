"""How the prompts of a label become one score: an explicit setting, never a habit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from retune.prompts.bank import PromptBank

Combine = Literal["embeddings", "scores", "max"]
"""How a label's prompts are combined: mean of embeddings, mean of cosines, or largest cosine."""

Scoring = Literal["difference", "positive"]
"""Positive minus negative similarity, or the positive one alone."""

RULES: Final[tuple[Combine, ...]] = get_args(Combine)
SCORINGS: Final[tuple[Scoring, ...]] = get_args(Scoring)


def similarity(images: Tensor, prompts: Tensor, groups: Tensor, n_labels: int, rule: Combine) -> Tensor:
    """Cosine similarity of images to the prompts of each label. Differentiable in images and prompts.

    Neither images nor prompts need be normalised.

    Args:
        images: Image embeddings, (N, d).
        prompts: Prompt embeddings, (P, d), in any order.
        groups: The label index of each prompt, (P,), int64, in 0..n_labels-1.
        n_labels: C, how many labels there are.
        rule: ``"embeddings"``: cosine to the mean of the label's normalised prompts (Radford et al., 2021,
            prompt ensembling); ``"scores"``: mean of the cosines; ``"max"``: largest cosine.

    Returns:
        (N, C), of the dtype of the inputs.

    Raises:
        ValueError: If the rule is unknown, shapes do not fit or a label has no prompt.
    """
    if rule == "max":
        return _largest(images, prompts, groups, n_labels)
    return _along(images, _directions(prompts, groups, n_labels, rule))


def _counts(prompts: Tensor, groups: Tensor, n_labels: int) -> Tensor:
    """How many prompts each label has, (C,); none may have none."""
    if groups.ndim != 1 or prompts.ndim != 2 or len(groups) != len(prompts):
        shapes = f"{tuple(prompts.shape)} and {tuple(groups.shape)}"
        raise ValueError(f"prompts and groups must be (P, d) and (P,), not {shapes}")
    counts = torch.bincount(groups, minlength=n_labels)
    if len(counts) > n_labels:
        raise ValueError(f"groups go up to {len(counts) - 1}, but there are {n_labels} labels")
    if bool((counts == 0).any()):
        raise ValueError(f"no prompts for label indices {(counts == 0).nonzero().flatten().tolist()}")
    return counts


def _largest(images: Tensor, prompts: Tensor, groups: Tensor, n_labels: int) -> Tensor:
    _counts(prompts, groups, n_labels)
    cosines = normalize(images, dim=-1) @ normalize(prompts, dim=-1).T
    best = cosines.new_zeros(len(images), n_labels)
    return best.scatter_reduce(1, groups.expand_as(cosines), cosines, "amax", include_self=False)


def _directions(prompts: Tensor, groups: Tensor, n_labels: int, rule: Combine) -> Tensor:
    """One direction per label, (C, d), whose product with an image of length 1 is its similarity."""
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; known: {', '.join(RULES)}")
    counts = _counts(prompts, groups, n_labels)
    # The mean of cosines is the cosine's numerator with the mean prompt, so P need not be multiplied out.
    unit = normalize(prompts, dim=-1)
    means = unit.new_zeros(n_labels, unit.shape[1]).index_add(0, groups, unit)
    means = means / counts.to(means.dtype).unsqueeze(1)
    return normalize(means, dim=-1) if rule == "embeddings" else means


def _along(images: Tensor, directions: Tensor) -> Tensor:
    """Products of images, scaled to length 1, with directions; (N, d) and (C, d) to (N, C)."""
    # Dividing the few products is cheaper than dividing the images.
    lengths = torch.linalg.vector_norm(images, dim=-1, keepdim=True).clamp_min(1e-12)
    products: Tensor = (images @ directions.T) / lengths
    return products


@dataclass(frozen=True, eq=False)
class PromptEmbeddings:
    """A bank's prompts as embeddings.

    Args:
        positive: Embeddings of the positive prompts, (P, d).
        positive_label: Index into ``labels`` of each positive prompt, (P,), int64.
        negative: Embeddings of the negative prompts, (Q, d); Q may be 0 for ``"positive"`` scoring.
        negative_label: Index into ``labels`` of each negative prompt, (Q,), int64.
        labels: The C labels.

    Raises:
        ValueError: If embeddings and label indices differ in number.
    """

    positive: Tensor
    positive_label: Tensor
    negative: Tensor
    negative_label: Tensor
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        for side in ("positive", "negative"):
            embeddings, index = getattr(self, side), getattr(self, f"{side}_label")
            if embeddings.ndim != 2 or index.shape != embeddings.shape[:1]:
                shapes = f"{tuple(embeddings.shape)} and {tuple(index.shape)}"
                raise ValueError(f"{side} and {side}_label must be (n, d) and (n,), not {shapes}")

    def score(self, images: Tensor, rule: Combine, scoring: Scoring) -> Tensor:
        """Score every label for every image; higher means more likely present.

        Args:
            images: Image embeddings, (N, d).
            rule: How the prompts of a label are combined.
            scoring: ``"difference"``: similarity to the positive prompts minus that to the negative ones;
                ``"positive"``: similarity to the positive ones.

        Returns:
            (N, C).

        Raises:
            ValueError: If a setting is unknown or a label lacks prompts that the scoring needs.
        """
        if scoring not in SCORINGS:
            raise ValueError(f"unknown scoring {scoring!r}; known: {', '.join(SCORINGS)}")
        n = len(self.labels)
        sides = (self.positive, self.positive_label), (self.negative, self.negative_label)
        if scoring == "positive":
            return similarity(images, *sides[0], n, rule)
        if rule == "max":
            return similarity(images, *sides[0], n, rule) - similarity(images, *sides[1], n, rule)
        # Both sides are linear in the image: one product does.
        positive, negative = (_directions(*side, n, rule) for side in sides)
        return _along(images, positive - negative)

    def map(self, fn: Callable[[Tensor], Tensor]) -> PromptEmbeddings:
        """The same prompts with ``fn``, (n, d) to (n, d'), applied to both sides, e.g. a text adaptor."""
        both = fn(torch.cat([self.positive, self.negative]))
        return replace(self, positive=both[: len(self.positive)], negative=both[len(self.positive) :])

    def of(self, columns: Sequence[int]) -> PromptEmbeddings:
        """The prompts of some labels alone, in the order of ``columns``, their indices."""
        chosen = list(columns)
        place = self.positive_label.new_full((len(self.labels),), -1)
        place[chosen] = torch.arange(len(chosen), device=place.device)
        positive, negative = place[self.positive_label], place[self.negative_label]
        return PromptEmbeddings(
            self.positive[positive >= 0],
            positive[positive >= 0],
            self.negative[negative >= 0],
            negative[negative >= 0],
            tuple(self.labels[c] for c in chosen),
        )

    def embedded(self, bank: PromptBank, encode: Callable[[Sequence[str]], Tensor]) -> PromptEmbeddings:
        """The same prompts as another text tower embeds them.

        Args:
            bank: Holds them as texts.
            encode: From P texts to (P, d').
        """
        positive, negative = (
            encode([text for label in self.labels for text in of(label)])
            for of in (bank.positive, bank.negative)
        )
        return replace(self, positive=positive, negative=negative)

    def to(self, device: str) -> PromptEmbeddings:
        """The same prompts on a device."""
        return PromptEmbeddings(
            self.positive.to(device),
            self.positive_label.to(device),
            self.negative.to(device),
            self.negative_label.to(device),
            self.labels,
        )
