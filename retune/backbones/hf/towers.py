"""The two towers of a transformers model that embeds images and texts in one space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from retune.backbones.towers import Autocast, TextTower, Tokenizer


class Normalise:
    """From pictures in [0, 1] to what an image processor would have made of them.

    Args:
        processor: An image processor of transformers.
    """

    def __init__(self, processor: Any) -> None:
        self.scale = 255 * processor.rescale_factor if processor.do_rescale else 255.0
        self.mean: Sequence[float] = processor.image_mean if processor.do_normalize else (0.0,)
        self.std: Sequence[float] = processor.image_std if processor.do_normalize else (1.0,)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Scale and normalise float32 (B, 3, S, S)."""
        mean, std = (torch.tensor(x, device=images.device).view(-1, 1, 1) for x in (self.mean, self.std))
        return (images * self.scale - mean) / std


def patch_tokens(tower: Any, images: torch.Tensor) -> torch.Tensor:
    """Last hidden state of the patches of normalised pictures, (B, 3, S, S) to (B, T, w).

    Args:
        tower: A model's image tower.
        images: Normalised pictures.
    """
    patches = (tower.config.image_size // tower.config.patch_size) ** 2
    found: torch.Tensor = tower(pixel_values=images).last_hidden_state[:, -patches:]
    return found


class Vision(nn.Module):
    """An image tower and its projection, if it has one: float32 (B, 3, S, S) to (B, d).

    Args:
        model: The whole model.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.tower: nn.Module = model.vision_model
        self.projection: nn.Module = getattr(model, "visual_projection", None) or nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed normalised pictures."""
        features: torch.Tensor = self.projection(self.tower(pixel_values=images).pooler_output)
        return features


class HfText(TextTower):
    """The text tower of a transformers model from word embeddings on.

    The tower is run as it is; only what its table of words returns is put in the place of what the table
    would have returned.

    Args:
        model: The whole model.
        tokenizer: Texts to int64 (P, C), words first.
        context_length: C.
        autocast: Makes the context in which products are done.
        numbers: The tokenizer's numbers of its end (None without one) and of its padding.
        sees_padding: Whether padding is attended to, as in SigLIP; then texts are always C long.
        pads_left: Whether the tower was trained with its padding in front.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        context_length: int,
        autocast: Autocast,
        *,
        numbers: tuple[int | None, int],
        sees_padding: bool,
        pads_left: bool,
    ) -> None:
        self.end, self.pad = numbers
        self.sees_padding = sees_padding
        self.pads_left = pads_left
        super().__init__(model, tokenizer, context_length, autocast)

    def _embedding(self) -> nn.Module:
        module: nn.Module = self.tower.text_model.get_input_embeddings()
        self.width = int(module.embedding_dim)  # type: ignore[arg-type]
        return module

    def _is_word(self, ids: torch.Tensor) -> torch.Tensor:
        if self.pad != self.end:
            return ids != self.pad
        ends = (ids == self.end).int()
        return ends.cumsum(dim=1) - ends == 0

    def _forward(self, words: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        there = mask
        if self.sees_padding:
            count = mask.sum(dim=1, keepdim=True)
            first = self.context_length - count if self.pads_left else torch.zeros_like(count)
            place = torch.arange(self.context_length, device=mask.device)
            there = (place >= first) & (place < first + count)
        pad = self.embedding(torch.tensor(self.pad, device=words.device))
        filled = pad.expand(*there.shape, -1).clone()
        filled[there] = words[mask].to(filled.dtype)
        context: list[torch.Tensor] = []
        text_model = self.tower.text_model
        hooks = (
            self.embedding.register_forward_hook(lambda *_: filled),
            text_model.register_forward_hook(lambda _module, _inputs, out: context.append(out[0])),
        )
        try:
            attended = None if self.sees_padding else there.long()
            out = self.tower.get_text_features(input_ids=self._numbers(there), attention_mask=attended)
        finally:
            for hook in hooks:
                hook.remove()
        found = torch.zeros_like(words)
        found[mask] = context[0][there].to(found.dtype)
        return found, pooled(out)

    def _numbers(self, there: torch.Tensor) -> torch.Tensor:
        """Token numbers in which a tower finds the end and the padding of texts made of other things."""
        word = next(n for n in range(3) if n not in (self.end, self.pad))
        ids = torch.where(there, word, self.pad)
        if self.end is not None:
            last = there.shape[1] - 1 - there.flip(1).int().argmax(dim=1)
            ids[torch.arange(len(ids), device=ids.device), last] = self.end
        return ids


def pooled(out: Any) -> torch.Tensor:
    """The features that ``get_image_features`` or ``get_text_features`` gives, bare or in an output."""
    features: torch.Tensor = out if isinstance(out, torch.Tensor) else out.pooler_output
    return features
