"""Prompts whose first words are learnt, through a frozen text tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from retune.errors import UserError

if TYPE_CHECKING:
    from retune.backbones.base import TextPath


class LearntContext:
    """The prompts "[v_1] ... [v_M] CLASS" of P classes, with words v_1 to v_M to be learnt for all of them.

    Zhou et al., "Learning to Prompt for Vision-Language Models", arXiv 2109.01134. The words stand after
    the tower's start token, where it has one. They are no part of this object: one set of prompts
    serves as many contexts as are learnt.

    Args:
        path: The text tower.
        classes: What follows the learnt words, P texts.
        base: The sentence whose word embeddings the learnt words start from.
        length: M; a shorter base is repeated, a longer one cut, as peft's prompt tuning does. By default
            as many as the base has.
        device: Where words belong.

    Raises:
        UserError: If the base has no words, or the longest prompt more than the tower takes.
    """

    def __init__(
        self,
        path: TextPath,
        classes: Sequence[str],
        base: str,
        *,
        length: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.path = path
        # Towers that tell a word from a word's beginning know it by the space before it.
        words, mask = path.embed([f" {text}" for text in classes])
        self._words, self._mask = words.to(device), mask.to(device)
        self._first, last = _ends(path)
        base_words = _words_of(path, base)
        base_words = base_words[self._first : len(base_words) - last]
        if not base.strip() or not len(base_words):
            raise UserError("the sentence that a learnt context starts from has no words", fix="give it some")
        length = length or len(base_words)
        repeats = -(-length // len(base_words))
        self._start = base_words.repeat(repeats, 1)[:length].to(device)
        with torch.no_grad():
            self.encode(self._start, self._mask.sum(dim=1).argmax()[None])

    def start(self) -> nn.Parameter:
        """A new context, (M, w): the word embeddings of the base sentence."""
        return nn.Parameter(self._start.clone())

    def prompts(
        self, context: torch.Tensor, index: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Word embeddings of the prompts, (K, M + L, w), and which of them are words, bool (K, M + L).

        Args:
            context: (M, w).
            index: Which of the classes, (K,); by default all.
        """
        words, mask = (x if index is None else x[index] for x in (self._words, self._mask))
        learnt = context.expand(len(words), -1, -1)
        there = mask.new_ones(learnt.shape[:2])
        ahead, behind = words[:, : self._first], words[:, self._first :]
        return (
            torch.cat([ahead, learnt, behind], dim=1),
            torch.cat([mask[:, : self._first], there, mask[:, self._first :]], dim=1),
        )

    def encode(self, context: torch.Tensor, index: torch.Tensor | None = None) -> torch.Tensor:
        """Vectors of the prompts, (K, d_text), with gradients to the context.

        Args:
            context: (M, w).
            index: Which of the classes, (K,); by default all.
        """
        return self.path.encode(*self.prompts(context, index))


def _words_of(path: TextPath, text: str) -> torch.Tensor:
    words, mask = path.embed([text])
    return words[0][mask[0]]


def _ends(path: TextPath) -> tuple[int, int]:
    """How many words, 0 or 1, a tower puts before and after every text: the empty one has them, too."""
    empty, other = (_words_of(path, text) for text in ("", "heart"))
    return int(torch.equal(empty[0], other[0])), int(torch.equal(empty[-1], other[-1]))


def affirmed_and_denied(labels: Sequence[str]) -> list[str]:
    """What may follow a context: each of C labels as within a sentence, then its denial; 2 C texts."""
    names = [label.lower() for label in labels]
    # "No no finding" would say nothing.
    denied = [name.removeprefix("no ") if name.startswith("no ") else f"no {name}" for name in names]
    return names + denied
