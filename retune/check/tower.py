"""A small vision transformer to train in: every method that works inside an image tower can work in it."""

from __future__ import annotations

import torch
from torch import nn

from retune.backbones.base import Capability
from retune.backbones.models.phantom_clip import PhantomClip
from retune.backbones.openclip.config import PROMPTED
from retune.backbones.openclip.towers import patch_tokens
from retune.backbones.towers import ImageTower
from retune.methods.training import seeded

WIDTH = 32


class SmallTower(PhantomClip):
    """phantom-clip with an image tower of random weights, which takes a twentieth of the time."""

    @property
    def capabilities(self) -> frozenset[Capability]:  # type: ignore[override]
        """Of phantom-clip, and of a vision transformer."""
        return super().capabilities | PROMPTED

    def image_tower(self) -> nn.Module:
        """A trainable copy of it."""
        from open_clip.transformer import VisionTransformer

        side, dim = self.card.image_size, self.card.dim
        with seeded(0):
            visual = VisionTransformer(
                image_size=side, patch_size=32, width=WIDTH, layers=2, heads=2, mlp_ratio=2, output_dim=dim
            )
        return ImageTower(visual.eval(), lambda images: (images - 0.5) / 0.3, patch_tokens)

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed uint8 (B, S, S) pictures as float32 (B, d)."""
        with torch.inference_mode():
            features: torch.Tensor = self.image_tower()(pixels)
            return features
