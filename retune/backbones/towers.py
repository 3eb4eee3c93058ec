"""What towers of every kind have in common: pictures made numbers, texts in batches, words on their way to vectors."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import torch
from torch import nn

from retune.errors import UserError

Normalise = Callable[[torch.Tensor], torch.Tensor]
Tokenizer = Callable[[list[str]], torch.Tensor]
Patches = Callable[[Any, torch.Tensor], torch.Tensor]
Autocast = Callable[[], AbstractContextManager[None]]

TEXT_BATCH: Final = 16
"""Texts are always encoded so many at a time: the last bits of a product depend on its size."""


def encode_in_batches(
    texts: Sequence[str], encode: Callable[[list[str]], torch.Tensor], dim: int
) -> torch.Tensor:
    """Vectors of P texts, float32 (P, dim) on the CPU; none depends on its neighbours.

    Args:
        texts: P texts.
        encode: From TEXT_BATCH texts to their vectors.
        dim: Dimension of a vector.
    """
    done = []
    for start in range(0, len(texts), TEXT_BATCH):
        batch = list(texts[start : start + TEXT_BATCH])
        vectors = encode(batch + batch[-1:] * (TEXT_BATCH - len(batch)))
        done.append(vectors.float().cpu()[: len(batch)])
    return torch.cat(done) if done else torch.empty(0, dim)


def normalised(pixels: torch.Tensor, normalise: Normalise, device: torch.device) -> torch.Tensor:
    """uint8 (B, S, S) grey to float32 (B, 3, S, S) as the model was trained on."""
    grey = pixels.to(device)[:, None].float().div(255)
    return normalise(grey.expand(-1, 3, -1, -1))


def as_maps(tokens: torch.Tensor) -> torch.Tensor:
    """Embedded patches (B, T, w), row by row, in their places: (B, w, g, g).

    Raises:
        UserError: If they form no square.
    """
    side = math.isqrt(tokens.shape[1])
    if side**2 != tokens.shape[1]:
        raise UserError(
            f"{tokens.shape[1]} patches form no square, so that they are no map",
            fix="choose a backbone whose pictures are square",
        )
    return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)


class ImageTower(nn.Module):
    """A trainable copy of an image tower, normalisation included: uint8 (B, S, S) to float32 (B, d).

    It starts in evaluation mode, where it gives what the frozen tower gives.

    Args:
        visual: The frozen image tower.
        normalise: What it does with pictures first.
        patches: From the tower and normalised pictures (B, 3, S, S) to their embedded patches (B, T, w).
    """

    def __init__(self, visual: nn.Module, normalise: Normalise, patches: Patches) -> None:
        super().__init__()
        self.visual = copy.deepcopy(visual).requires_grad_(True)
        self.normalise, self.patches = normalise, patches

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed pictures, on the device that the tower is on."""
        features: torch.Tensor = self.visual(self._normalised(pixels))
        return features.float()

    def maps(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embedded patches of uint8 (B, S, S) in their places, float32 (B, w, g, g)."""
        return as_maps(self.patches(self.visual, self._normalised(pixels)).float())

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        return normalised(pixels, self.normalise, next(self.visual.parameters()).device)


class TextTower(ABC):
    """A frozen text tower from word embeddings on; a :class:`retune.backbones.base.TextPath`.

    Args:
        tower: The module that holds it.
        tokenizer: Texts to int64 (P, C), padded.
        context_length: C, how many words the tower takes.
        autocast: Makes the context in which products are done.
    """

    width: int
    where: str | None = None
    """What to name in messages."""

    def __init__(self, tower: Any, tokenizer: Any, context_length: int, autocast: Autocast) -> None:
        self.tower = tower
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.autocast = autocast
        self.embedding: nn.Module = self._embedding()
        self.device = next(self.embedding.parameters()).device

    @property
    def module(self) -> nn.Module:
        """What holds the tower's weights."""
        module: nn.Module = self.tower
        return module

    def ids(self, texts: Sequence[str]) -> torch.Tensor:
        """Token numbers of P texts, int64 (P, C), on the tower's device.

        Raises:
            UserError: If the tower's table has no such word.
        """
        ids: torch.Tensor = self.tokenizer(list(texts))
        self.require_known(int(ids.max()))
        return ids.to(self.device)

    def require_known(self, number: int) -> None:
        """See that a word is in the table of words: a GPU would break down over it.

        Raises:
            UserError: If it is not.
        """
        known = self.embedding.num_embeddings
        if number >= known:  # type: ignore[operator]
            raise UserError(
                f"its tokenizer gives word piece {number}, its weights know {known}",
                where=self.where,
                fix="see that its tokenizer's files are those that came with its weights",
            )

    def embed(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Word embeddings of P texts, (P, L, w), and which of them are words, bool (P, L), on the CPU.

        L is the longest text's; positions are not added yet.
        """
        if not texts:
            return torch.zeros(0, 0, self.width), torch.zeros(0, 0, dtype=torch.bool)
        ids, mask = self._tokens(texts)
        length = columns(mask)
        with torch.no_grad():
            return self.embedding(ids[:, :length]).cpu(), mask[:, :length].cpu()

    def encode(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Vectors of P texts, (P, d_text), with gradients to ``words`` and on the device of these.

        Args:
            words: (P, L, w), learnt ones among them.
            mask: bool (P, L), words first.

        Raises:
            UserError: If a text has more words than the tower takes.
        """
        return self._run(words, mask)[1].float().to(words.device)

    def words(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Words of P texts in context, float32 (P, L, w), zero beyond the text, and the mask (P, L)."""
        mask = self.embed(texts)[1]
        found = torch.zeros(*mask.shape, self.width)
        # One at a time: no text depends on its neighbours, not even in the last bit.
        for row, text in enumerate(texts):
            embedded, used = self.embed([text])
            length = used.shape[1]
            found[row, :length] = self._run(embedded, used)[0][0, :length].float().cpu()
        return found, mask

    def _run(self, words: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        length = self._length(mask)
        if length > self.context_length:
            raise UserError(
                f"a text has {length} words with those to learn, the text tower takes {self.context_length}",
                where=self.where,
                fix="learn fewer, or shorten the prompts",
            )
        with self.autocast():
            return self._forward(words[:, :length].to(self.device), mask[:, :length].to(self.device))

    def _length(self, mask: torch.Tensor) -> int:
        """How many columns the tower is given."""
        return columns(mask)

    @abstractmethod
    def _embedding(self) -> nn.Module:
        """The table of word embeddings; sets ``width``."""

    def _tokens(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token numbers of P texts, int64 (P, C), and which of them are words, bool (P, C)."""
        ids = self.ids(texts)
        return ids, self._is_word(ids)

    def _is_word(self, ids: torch.Tensor) -> torch.Tensor:
        """Which tokens are words rather than padding; (P, C) to bool (P, C)."""
        raise NotImplementedError

    @abstractmethod
    def _forward(self, words: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Words in context, (P, L or more, w), and vectors of the texts, (P, d)."""


def columns(mask: torch.Tensor) -> int:
    """Columns up to the last that holds a word; bool (P, L) to at most L."""
    used = mask.any(dim=0).nonzero()
    return int(used[-1]) + 1 if len(used) else 0
