"""MedSigLIP: SigLIP-400M trained on medical images and texts (Sellergren et al., arXiv 2507.05201)."""

from __future__ import annotations

from typing import Final

from retune.backbones.base import BackboneCard
from retune.backbones.hf.model import TransformersDual

SOURCE: Final = "hf-hub:google/medsiglip-448"


class MedSigLIP(TransformersDual):
    """So400m/14 at 448 px, 1152 joint dimensions; downloaded at first use, once its terms are accepted."""

    def __init__(self) -> None:
        super().__init__(SOURCE, name="medsiglip")

    @property
    def card(self) -> BackboneCard:
        """Written out here, so that it can be shown before anything is downloaded."""
        return BackboneCard(
            source=SOURCE,
            licence="Health AI Developer Foundations terms of use",
            pretraining_data=("mimic-cxr", "other medical images and texts, public and private", "WebLI"),
            image_size=448,
            dim=1152,
            token_dim=1152,
            text_token_dim=1152,
        )
