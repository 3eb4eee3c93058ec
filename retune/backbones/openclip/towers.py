"""The towers of an open_clip model from the inside: patches, words, prompts to learn, a copy to train."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from retune.errors import UserError

Normalise = Callable[[torch.Tensor], torch.Tensor]
Tokenizer = Callable[[list[str]], torch.Tensor]
Autocast = Callable[[], AbstractContextManager[None]]


def normalised(pixels: torch.Tensor, normalise: Normalise, device: torch.device) -> torch.Tensor:
    """uint8 (B, S, S) grey to float32 (B, 3, S, S) as the model was trained on."""
    grey = pixels.to(device)[:, None].float().div(255)
    return normalise(grey.expand(-1, 3, -1, -1))


def patch_tokens(visual: Any, images: torch.Tensor) -> torch.Tensor:
    """What an image tower makes of each patch before it pools them; (B, 3, S, S) to (B, T, w).

    Of a transformer: the last block's patches, after the closing norm where pooling follows it. Of a
    convolutional network: the last feature map, row by row.

    Args:
        visual: The image tower.
        images: Normalised pictures.
    """
    found: torch.Tensor
    trunk = getattr(visual, "trunk", None)
    if trunk is None:
        pools_first = getattr(visual, "attn_pool", None) or getattr(visual, "final_ln_after_pool", False)
        found = visual.forward_intermediates(
            images, indices=1, normalize_intermediates=not pools_first, intermediates_only=True
        )["image_intermediates"][-1]
    else:
        found = trunk.forward_features(images)
        if found.ndim == 3:
            return found[:, int(getattr(trunk, "num_prefix_tokens", 0)) :]
        if getattr(trunk, "output_fmt", "NCHW") == "NHWC":
            return found.flatten(1, 2)
    return found.flatten(2).transpose(1, 2)


class ImageTower(nn.Module):
    """A trainable copy of an image tower, normalisation included: uint8 (B, S, S) to float32 (B, d).

    It starts in evaluation mode, where it gives what the frozen tower gives.

    Args:
        visual: The frozen image tower.
        normalise: What it does with pictures first.
    """

    def __init__(self, visual: nn.Module, normalise: Normalise) -> None:
        super().__init__()
        self.visual = copy.deepcopy(visual).requires_grad_(True)
        self.normalise = normalise

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed pictures, on the device that the tower is on."""
        device = next(self.visual.parameters()).device
        features: torch.Tensor = self.visual(normalised(pixels, self.normalise, device))
        return features.float()


class TextTower(ABC):
    """A frozen text tower from word embeddings on; a :class:`retune.backbones.base.TextPath`.

    Args:
        tower: The module that holds it.
        tokenizer: Texts to int64 (P, C), padded.
        context_length: C, how many words the tower takes.
        autocast: Makes the context in which products are done.
    """

    width: int

    def __init__(self, tower: Any, tokenizer: Tokenizer, context_length: int, autocast: Autocast) -> None:
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

    def embed(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Word embeddings of P texts, (P, L, w), and which of them are words, bool (P, L), on the CPU.

        L is the longest text's; positions are not added yet.
        """
        if not texts:
            return torch.zeros(0, 0, self.width), torch.zeros(0, 0, dtype=torch.bool)
        ids = self.tokenizer(list(texts)).to(self.device)
        mask = self._is_word(ids)
        length = _columns(mask)
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
        length = _columns(mask)
        if length > self.context_length:
            raise UserError(
                f"a text has {length} words with those to learn, the text tower takes {self.context_length}",
                fix="learn fewer, or shorten the prompts",
            )
        with self.autocast():
            return self._forward(words[:, :length].to(self.device), mask[:, :length].to(self.device))

    @abstractmethod
    def _embedding(self) -> nn.Module:
        """The table of word embeddings; sets ``width``."""

    @abstractmethod
    def _is_word(self, ids: torch.Tensor) -> torch.Tensor:
        """Which tokens are words rather than padding; (P, C) to bool (P, C)."""

    @abstractmethod
    def _forward(self, words: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Words in context, (P, L or more, w), and vectors of the texts, (P, d)."""


class OwnText(TextTower):
    """open_clip's own text transformer."""

    def _embedding(self) -> nn.Module:
        tower = self.tower
        # A plain CLIP calls the same things by longer names.
        self.pool = str(tower.pool_type if hasattr(tower, "pool_type") else tower.text_pool_type)
        self.eos = int(tower.eos_id if hasattr(tower, "eos_id") else tower.text_eos_id)
        self.width = int(tower.token_embedding.embedding_dim)
        inner = getattr(self.tokenizer, "tokenizer", None)
        self.pad = 0 if inner is None else int(inner.pad_token_id)
        # A tower that looks both ways, or pools at the end, sees the padding, too.
        self.sees_padding = tower.attn_mask is None or self.pool == "last"
        module: nn.Module = tower.token_embedding
        return module

    def _is_word(self, ids: torch.Tensor) -> torch.Tensor:
        if self.pool in ("argmax", "eos"):
            last = ids.argmax(dim=1) if self.pool == "argmax" else (ids == self.eos).int().argmax(dim=1)
            return torch.arange(ids.shape[1], device=ids.device) <= last[:, None]
        # A word may share its number with the padding: only the tail is padding.
        return (ids != self.pad).int().flip(1).cummax(dim=1).values.flip(1).bool()

    def _forward(self, words: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tower = self.tower
        if self.sees_padding:
            words = self._padded(words, mask)
        length = words.shape[1]
        attended = None if tower.attn_mask is None else tower.attn_mask[:length, :length]
        x = tower.transformer(words + tower.positional_embedding[:length], attn_mask=attended)
        x = tower.ln_final(x)
        places = {"first": torch.zeros_like(mask[:, 0], dtype=torch.int64), "last": -1}
        pooled = x[torch.arange(len(x), device=x.device), places.get(self.pool, mask.sum(dim=1) - 1)]
        if isinstance(tower.text_projection, nn.Linear):
            pooled = tower.text_projection(pooled)
        elif tower.text_projection is not None:
            pooled = pooled @ tower.text_projection
        return x, pooled

    def _padded(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        pad = self.embedding(torch.tensor(self.pad, device=words.device))
        filled = torch.where(mask[..., None], words, pad)
        tail = pad.expand(len(words), self.context_length - words.shape[1], -1)
        return torch.cat([filled, tail], dim=1)


class HuggingFaceText(TextTower):
    """A text encoder of transformers with open_clip's pooling and projection."""

    def _embedding(self) -> nn.Module:
        module: nn.Module = self.tower.transformer.get_input_embeddings()
        self.width = int(module.embedding_dim)  # type: ignore[arg-type]
        return module

    def _is_word(self, ids: torch.Tensor) -> torch.Tensor:
        return ids != int(self.tower.config.pad_token_id)

    def _forward(self, words: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        attended = mask.long()
        out = self.tower.transformer(inputs_embeds=words, attention_mask=attended)
        return out.last_hidden_state, self.tower.proj(self.tower.pooler(out, attended))


def text_tower(model: Any, tokenizer: Tokenizer, context_length: int, autocast: Autocast) -> TextTower:
    """The text tower of an open_clip model, which a plain ``CLIP`` holds in pieces.

    Args:
        model: An ``open_clip.CLIP`` or ``CustomTextCLIP``.
        tokenizer: Texts to padded int64 (P, C).
        context_length: C.
        autocast: Makes the context in which products are done.
    """
    tower = getattr(model, "text", model)
    kind = HuggingFaceText if hasattr(tower, "pooler") else OwnText
    return kind(tower, tokenizer, context_length, autocast)


def _columns(mask: torch.Tensor) -> int:
    """Columns up to the last that holds a word; bool (P, L) to at most L."""
    used = mask.any(dim=0).nonzero()
    return int(used[-1]) + 1 if len(used) else 0
