"""RAD-DINO (Perez-Garcia et al., arXiv 2401.10815) beside CXR-BERT (Boecking et al., arXiv 2204.09817)."""

from __future__ import annotations

from retune.backbones.base import BackboneCard
from retune.backbones.pair.model import KNOWN, Pair

VISION = "hf-hub:microsoft/rad-dino"
TEXT = "hf-hub:microsoft/BiomedVLP-CXR-BERT-general"


class RadDinoCxrBert(Pair):
    """ViT-B/14 at 518 px and a BERT of reports, 768 dimensions each, no joint space; downloaded at first use."""

    def __init__(self) -> None:
        super().__init__(f"pair:{VISION}+{TEXT}", name="rad-dino-cxr-bert")

    @property
    def card(self) -> BackboneCard:
        """Written out here, so that it can be shown before anything is downloaded."""
        return BackboneCard(
            source=self.source,
            licence="MIT",
            pretraining_data=tuple(dict.fromkeys(KNOWN[VISION].data + KNOWN[TEXT].data)),
            image_size=518,
            dim=768,
            text_dim=768,
            token_dim=768,
            text_token_dim=768,
        )
