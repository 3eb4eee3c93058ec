"""PubMedCLIP: CLIP fine-tuned on radiology figures and captions of PubMed (Eslami et al., EACL Findings 2023)."""

from __future__ import annotations

from typing import Final

from retune.backbones.base import BackboneCard
from retune.backbones.hf.model import TransformersDual

SOURCE: Final = "hf-hub:flaviagiammarino/pubmed-clip-vit-base-patch32"


class PubMedCLIP(TransformersDual):
    """ViT-B/32 at 224 px, 512 joint dimensions; downloaded at first use."""

    def __init__(self) -> None:
        super().__init__(SOURCE, name="pubmed-clip")

    @property
    def card(self) -> BackboneCard:
        """Written out here, so that it can be shown before anything is downloaded."""
        return BackboneCard(
            source=SOURCE,
            licence="MIT",
            pretraining_data=("ROCO", "WIT-400M (OpenAI)"),
            image_size=224,
            dim=512,
            token_dim=768,
            text_token_dim=512,
        )
