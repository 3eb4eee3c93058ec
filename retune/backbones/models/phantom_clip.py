"""phantom-clip: a small CLIP of synthetic chest radiographs and their reports, packaged with retune."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import retune.backbones.phantom_clip as package
from retune.backbones.base import BackboneCard
from retune.backbones.openclip.config import image_size, text_token_dim
from retune.backbones.openclip.model import OpenClip

TOKEN_DIM: Final = 320
"""Channels of fasternet_t0's last feature map; to ask timm would import torch."""


class PhantomClip(OpenClip):
    """A 128 px image tower and a small text tower, 128 joint dimensions; works offline."""

    def __init__(self) -> None:
        super().__init__(f"local-dir:{Path(package.__file__).parent}", name="phantom-clip")

    @property
    def card(self) -> BackboneCard:
        """Sizes from the packaged configuration; the model card beside it tells the rest."""
        return BackboneCard(
            source="packaged with retune; recipe in retune/backbones/phantom_clip/train.py",
            licence="Apache-2.0",
            pretraining_data=("phantom (synthetic; other patients and seeds, sites A, B, E, F)",),
            image_size=image_size(self.files.model_cfg),
            dim=int(self.files.model_cfg["embed_dim"]),
            synthetic=True,
            token_dim=TOKEN_DIM,
            text_token_dim=text_token_dim(self.files),
        )
