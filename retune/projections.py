"""Two towers' vectors brought into one space."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import normalize

from retune.methods.adaptors import linear


class Projections(nn.Module):
    """Linear projections of images and of texts to one space, and the logarithm of an inverse temperature.

    Args:
        image: Dimension of images.
        text: Dimension of texts.
        width: Of the common space.
        alike: Start both as one isometry, which keeps the cosines of a space that was joint before (only
            nearly, where that is wider than ``width``); otherwise at random.
        generator: Source of the initial weights; None leaves them uninitialised.
        temperature: What the softmax starts from.

    Raises:
        ValueError: If dimensions that are to start alike differ.
    """

    def __init__(
        self,
        image: int,
        text: int,
        width: int,
        *,
        alike: bool = False,
        generator: torch.Generator | None,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        self.image, self.text = linear(image, width, generator), linear(text, width, generator)
        self.scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        if alike:
            if image != text:
                raise ValueError(f"images of {image} and texts of {text} dimensions are in no joint space")
            drawn = torch.randn(max(width, image), min(width, image), generator=generator)
            basis = torch.linalg.qr(drawn).Q
            for layer in (self.image, self.text):
                layer.weight.data = (basis if width >= image else basis.T).clone()
                layer.bias.data.zero_()

    def project(self, side: Literal["image", "text"], vectors: torch.Tensor) -> torch.Tensor:
        """Unit vectors in the common space, (N, width)."""
        return normalize((self.image if side == "image" else self.text)(vectors), dim=1)

    def inverse_temperature(self) -> torch.Tensor:
        """At most 100, as in CLIP."""
        return self.scale.exp().clamp(max=100)


def projector(inputs: int, hidden: int, joint: int) -> nn.Sequential:
    """M-FLAG's: Linear, BatchNorm, ReLU, Linear, BatchNorm without affine part (Liu et al., arXiv 2307.08347).

    Args:
        inputs: Dimension of what is projected.
        hidden: Of what is inside.
        joint: Of what comes out.
    """
    first, norm = nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden)
    return nn.Sequential(
        first, norm, nn.ReLU(), nn.Linear(hidden, joint), nn.BatchNorm1d(joint, affine=False)
    )
