"""The towers of an open_clip model from the inside: patches, and words on their way to vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from retune.backbones.towers import Autocast, TextTower, Tokenizer


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
