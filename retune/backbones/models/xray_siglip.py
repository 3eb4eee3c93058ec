"""XraySigLIP: SigLIP trained on chest radiographs and reports for CheXagent (Chen et al., arXiv 2401.12208)."""

from __future__ import annotations

from typing import Final

from retune.backbones.base import BackboneCard
from retune.backbones.hf.model import TransformersDual

SOURCE: Final = "hf-hub:StanfordAIMI/XraySigLIP__vit-l-16-siglip-384__webli"


class XraySigLIP(TransformersDual):
    """ViT-L/16 at 384 px, 1024 joint dimensions; downloaded at first use."""

    def __init__(self) -> None:
        super().__init__(SOURCE, name="xray-siglip")

    @property
    def card(self) -> BackboneCard:
        """Written out here, so that it can be shown before anything is downloaded."""
        return BackboneCard(
            source=SOURCE,
            licence="CC BY-NC 4.0",
            pretraining_data=("chexpert", "mimic-cxr", "padchest", "BIMCV-COVID-19", "WebLI"),
            image_size=384,
            dim=1024,
            token_dim=1024,
            text_token_dim=1024,
            # CheXagent's collection holds these; whether this tower saw them is not said.
            may_include=("nih", "vindr-cxr", "chestmnist"),
        )
