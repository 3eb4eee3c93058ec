"""What a strategy may ask of the backbone beside features, and no more than it declared."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retune.backbones.base import Backbone, TextPath
from retune.errors import StrategyError, UserError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Towers:
    """The backbone's towers as a strategy sees them.

    Args:
        backbone: The frozen model.
        needs: What the strategy declared.
        device: Where answers are wanted.
    """

    backbone: Backbone
    needs: frozenset[str]
    device: str = "cpu"

    @property
    def text_dim(self) -> int:
        """Dimension of a text's vector."""
        return self.backbone.card.text_dim or self.backbone.card.dim

    @property
    def token_dim(self) -> int:
        """Dimension of a patch's vector."""
        self._require("tokens")
        assert self.backbone.card.token_dim is not None
        return self.backbone.card.token_dim

    @property
    def word_dim(self) -> int:
        """Dimension of a word's vector in context."""
        self._require("tokens")
        assert self.backbone.card.text_token_dim is not None
        return self.backbone.card.text_token_dim

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Vectors of P texts, float32 (P, d_text), from the feature store; each text is encoded once ever."""
        import torch

        from retune.features.encode import encode_texts

        self._require("texts", "joint")
        return torch.from_numpy(encode_texts(self.backbone, list(texts))).to(self.device)

    def words(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Words of P texts in context, float32 (P, L, w), and which are words, bool (P, L)."""
        self._require("tokens")
        words, mask = self.backbone.encode_words(texts)
        return words.to(self.device), mask.to(self.device)

    def text_path(self) -> TextPath:
        """The frozen text tower from word embeddings on, with gradients to these."""
        self._require("text-gradients")
        return self.backbone.text_path()

    def trainable_texts(self) -> TextPath:
        """A copy of the text tower, whose ``module`` may be changed and trained."""
        self._require("text-gradients")
        return copy.deepcopy(self.backbone.text_path())

    def image_tower(self) -> torch.nn.Module:
        """A trainable copy of the image tower: uint8 (B, S, S) pixels to (B, d); its patches by :func:`tower_maps`."""
        self._require("trainable-tower", "prompted-tower")
        return self.backbone.image_tower().to(self.device)

    def _require(self, *needs: str) -> None:
        if not self.needs & set(needs):
            raise StrategyError(f"the strategy asks for {' or '.join(needs)} without declaring it in 'needs'")


def tower_maps(tower: torch.nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """What an image tower makes of each patch now, in its place: uint8 (B, S, S) to float32 (B, w, g, g).

    Args:
        tower: As :meth:`Towers.image_tower` gave it, trained or not.
        pixels: Preprocessed pictures.

    Raises:
        UserError: If the backbone's tower gives no patches, or such as form no square.
    """
    give = getattr(tower, "maps", None)
    if not callable(give):
        raise UserError(
            f"the image tower ({type(tower).__name__}) gives one vector of a picture and no map of its patches",
            fix="choose a backbone whose image_tower() has the method maps",
        )
    maps: torch.Tensor = give(pixels)
    return maps
