"""DINOv2 ViT-B/14 (Oquab et al., arXiv 2304.07193) beside BiomedBERT (Gu et al., arXiv 2007.15779)."""

from __future__ import annotations

from retune.backbones.base import BackboneCard
from retune.backbones.pair.model import KNOWN, Pair

VISION = "hf-hub:facebook/dinov2-base"
TEXT = "hf-hub:microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext"


class Dinov2BiomedBert(Pair):
    """Two towers that saw no radiograph, 768 dimensions each, no joint space; downloaded at first use."""

    def __init__(self) -> None:
        super().__init__(f"pair:{VISION}+{TEXT}", name="dinov2-biomedbert")

    @property
    def card(self) -> BackboneCard:
        """Written out here, so that it can be shown before anything is downloaded."""
        return BackboneCard(
            source=self.source,
            licence="Apache-2.0 and MIT",
            pretraining_data=KNOWN[VISION].data + KNOWN[TEXT].data,
            image_size=224,
            dim=768,
            text_dim=768,
            token_dim=768,
            text_token_dim=768,
        )
