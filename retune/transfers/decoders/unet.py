"""The U-Net of GLoRIA, MGCA and M-FLAG, which is that of segmentation-models-pytorch.

Theirs has skips from the earlier stages of a ResNet-50, and 9,013,073 parameters. Where the last stage's map is all that
is given it is the same path upwards without skips, of as many doublings as lead to the masks' size, five at most.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import nn

from retune.errors import MissingPackage, install

WIDTHS: Final = (256, 128, 64, 32, 16)


def package() -> Any:
    """segmentation-models-pytorch.

    Raises:
        MissingPackage: If it is not installed.
    """
    try:
        import segmentation_models_pytorch as smp
    except ImportError:
        raise MissingPackage(
            "the decoder unet needs the package segmentation-models-pytorch, which is not installed",
            fix=install("dense"),
        ) from None
    return smp


def unet(features: int, findings: int, cells: int, pixels: int) -> nn.Module:
    """The network, from (b, features, g, g) to logits (b, findings, h, h)."""
    smp = package()
    widths = WIDTHS[: max(1, math.ceil(math.log2(max(2, pixels / cells))))]
    # Skips of no channels: the package's own path upwards.
    channels = [0] * len(widths) + [features]
    decoder = smp.decoders.unet.decoder.UnetDecoder(channels, widths, n_blocks=len(widths))
    head = smp.base.SegmentationHead(in_channels=widths[-1], out_channels=findings)
    smp.base.initialization.initialize_decoder(decoder)
    smp.base.initialization.initialize_head(head)
    return _Upwards(decoder, head, len(widths))


class _Upwards(nn.Module):
    def __init__(self, decoder: nn.Module, head: nn.Module, doublings: int) -> None:
        super().__init__()
        self.decoder, self.head, self.doublings = decoder, head, doublings

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        n, _, side, _ = maps.shape
        sides = [side << i for i in range(self.doublings, 0, -1)]
        logits: torch.Tensor = self.head(self.decoder([*(maps.new_empty(n, 0, s, s) for s in sides), maps]))
        return logits
