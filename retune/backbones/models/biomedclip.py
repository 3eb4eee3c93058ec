"""BiomedCLIP: CLIP trained on figures and captions of PubMed Central (Zhang et al., arXiv 2303.00915)."""

from __future__ import annotations

from typing import Final

from retune.backbones.base import BackboneCard
from retune.backbones.openclip.config import INSIDE, PROMPTED, WHOLE
from retune.backbones.openclip.model import OpenClip

SOURCE: Final = "hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"


class BiomedCLIP(OpenClip):
    """ViT-B/16 at 224 px and PubMedBERT, 512 joint dimensions; downloaded at first use."""

    capabilities = WHOLE | INSIDE | PROMPTED

    def __init__(self) -> None:
        super().__init__(SOURCE, name="biomedclip")

    @property
    def card(self) -> BackboneCard:
        """Written out here, so that it can be shown before anything is downloaded."""
        return BackboneCard(
            source=SOURCE,
            licence="MIT",
            pretraining_data=("PMC-15M",),
            image_size=224,
            dim=512,
            token_dim=768,
            text_token_dim=768,
        )
