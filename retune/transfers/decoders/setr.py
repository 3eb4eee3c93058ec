"""The decoder of Adaptor, which is MGCA's, which is SETR's PUP: convolutions, each followed by doubling the side.

Zheng et al., "Rethinking Semantic Segmentation from a Sequence-to-Sequence Perspective with Transformers", CVPR 2021.
Of one finding on 768 features it has 10,401,409 parameters, as in Adaptor's code.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from torch import nn

WIDTHS: Final = (512, 256, 128, 64)


def setr(features: int, findings: int, cells: int, pixels: int) -> nn.Module:
    """The network, from (b, features, g, g) to logits (b, findings, 16 g, 16 g).

    The first convolution keeps the maps' borders, where Adaptor's cuts them to come from 16 to 14 cells.
    """
    widths = (features, features, *WIDTHS)
    layers: list[nn.Module] = []
    for stage, (width, next_width) in enumerate(pairwise(widths)):
        layers += [
            nn.Conv2d(width, next_width, 3, padding=1),
            nn.BatchNorm2d(next_width),
            nn.ReLU(inplace=True),
        ]
        if stage:
            layers.append(nn.Upsample(scale_factor=2))
    layers.append(nn.Conv2d(WIDTHS[-1], findings, 3, padding=1))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(*layers)
