"""One small transformer on top of the frozen vectors of both modalities, and how it is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from torch import nn
from torch.nn.functional import normalize

from retune.errors import BadSetting, StrategyError
from retune.methods.given import Context, Images
from retune.methods.towers import Towers
from retune.methods.training import seeded
from retune.prompts.bank import POLARITIES
from retune.prompts.embeddings import PromptEmbeddings

InputKind = Literal["pooled", "tokens"]
"""One vector per image and text, or one per patch and word."""
Texts = tuple[torch.Tensor, torch.Tensor | None]
"""Texts as vectors (P, d), or as words (P, L, w) and which of the L are words, bool (P, L)."""

CHUNK: Final = 64
"""Images adapted at a time."""

HEAD_WIDTH: Final = 64
"""Dimensions of an attention head: 12 heads at width 768."""
LARGEST_SCALE: Final = 100.0
"""The inverse temperature stops here, as in CLIP (Radford et al., 2021)."""


def require_width(width: int) -> None:
    """Refuse a width that cannot be cut into heads.

    Raises:
        BadSetting: If it is no multiple of 64.
    """
    if width % HEAD_WIDTH:
        fix = "give 256, 512 or 768"
        raise BadSetting(f"{width} is no multiple of {HEAD_WIDTH}", where="setting width", fix=fix)


class CrossModalAdaptor(nn.Module):
    """Projections into one space, then transformer layers shared by images and texts.

    From Qin et al., "Freeze the backbones", arXiv 2401.01179. Every sample is a sequence of its own:
    it never attends to another sample or to the other modality.

    Args:
        image_dim: Dimension of an image's vector or patch.
        text_dim: Dimension of a text's vector or word.
        width: Dimension of the shared space, a multiple of 64. There are width / 64 heads and 8/3 width
            units in a feed-forward layer: 12 and 2,048 at 768.
        layers: Number of post-norm transformer layers.
        dropout: Share of activations dropped in training.
        temperature: Where the learnt temperature starts.
    """

    def __init__(
        self,
        image_dim: int,
        text_dim: int,
        width: int = 768,
        layers: int = 2,
        dropout: float = 0.1,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        self.image = nn.Linear(image_dim, width, bias=False)
        self.text = nn.Linear(text_dim, width, bias=False)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, width // HEAD_WIDTH, width * 8 // 3, dropout, batch_first=True)
            for _ in range(layers)
        )
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def images(self, vectors: torch.Tensor) -> torch.Tensor:
        """Adapted images of length 1, (B, width).

        Args:
            vectors: One vector per image, (B, d), or one per patch, (B, T, w).
        """
        return self._adapted(self.image(vectors), None)

    def texts(self, vectors: torch.Tensor, words: torch.Tensor | None = None) -> torch.Tensor:
        """Adapted texts of length 1, (P, width).

        Args:
            vectors: One vector per text, (P, d), or one per word, (P, L, w).
            words: Which of the L are words, bool (P, L); None where all are.
        """
        return self._adapted(self.text(vectors), words)

    def scale(self) -> torch.Tensor:
        """The inverse temperature."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)

    def _adapted(self, projected: torch.Tensor, words: torch.Tensor | None) -> torch.Tensor:
        padding = None
        if projected.ndim == 2:
            sequence = projected[:, None]
        else:
            # Towers need not have a class token: the mean goes first and is what comes out.
            used = projected.new_ones(projected.shape[:2]) if words is None else words.to(projected.dtype)
            mean = (projected * used[..., None]).sum(1) / used.sum(1, keepdim=True).clamp(min=1)
            sequence = torch.cat([mean[:, None], projected], 1)
            if words is not None:
                padding = torch.cat([words.new_zeros(len(words), 1), ~words], 1)
        sequence = normalize(sequence, dim=-1)
        for layer in self.layers:
            sequence = layer(sequence, src_key_padding_mask=padding)
        return normalize(sequence[:, 0], dim=-1)


@dataclass(frozen=True)
class PairedInputs:
    """The frozen vectors of images and texts that a :class:`CrossModalAdaptor` takes.

    Args:
        kind: ``pooled``, one vector for each; ``tokens``, one for each patch and each word.
        context: The towers.
    """

    kind: InputKind
    context: Context

    def adaptor(self, width: int, layers: int, dropout: float) -> CrossModalAdaptor:
        """A new adaptor that fits, in evaluation mode; its weights depend on the run's seed only."""
        context, towers = self.context, self._towers
        tokens = self.kind == "tokens"
        image_dim = towers.token_dim if tokens else context.dim
        text_dim = towers.word_dim if tokens else towers.text_dim
        with seeded(context.seed):
            made = CrossModalAdaptor(image_dim, text_dim, width, layers, dropout)
        return made.to(context.device).eval()

    def images(self, images: Images) -> Callable[[torch.Tensor], torch.Tensor]:
        """What gives the vectors of the images of some indices, (k,) to (k, d) or (k, T, w)."""
        return (images.tokens if self.kind == "tokens" else images.features).__getitem__

    def texts(self, texts: Sequence[str]) -> Texts:
        """The vectors of P texts."""
        return self._towers.words(texts) if self.kind == "tokens" else (self._towers.texts(texts), None)

    @property
    def _towers(self) -> Towers:
        if self.context.towers is None:
            raise StrategyError("there are no towers to encode texts")
        return self.context.towers

    @torch.no_grad()
    def adapted(self, adaptor: CrossModalAdaptor, images: Images) -> torch.Tensor:
        """All N images, adapted, (N, width)."""
        rows = self.images(images)
        return torch.cat([adaptor.images(rows(k)) for k in torch.arange(len(images)).split(CHUNK)])

    @torch.no_grad()
    def prompts(self, adaptor: CrossModalAdaptor, texts: Mapping[str, Texts]) -> PromptEmbeddings:
        """The context's prompts, adapted; ``texts`` holds the vectors of both polarities."""
        positive, negative = (adaptor.texts(*texts[polarity]) for polarity in POLARITIES)
        return replace(self.context.prompts, positive=positive, negative=negative)

    def bank(self) -> dict[str, Texts]:
        """Vectors of the prompts of both polarities, in the order of the context's."""
        if self.context.bank is None:
            raise StrategyError("there is no prompt bank")
        bank, labels = self.context.bank, self.context.labels
        return {
            polarity: self.texts([text for label in labels for text in bank.texts(label, polarity)])
            for polarity in POLARITIES
        }
