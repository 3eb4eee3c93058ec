"""Losses that strategies are written from."""

from __future__ import annotations

import torch
from torch.nn import functional


def masked_bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy with logits, averaged over the known labels only.

    Args:
        logits: (B, C).
        targets: (B, C); 1, 0 or NaN. A NaN has no influence on value or gradient.

    Returns:
        Scalar; 0 where nothing is known.
    """
    known = ~torch.isnan(targets)
    loss = functional.binary_cross_entropy_with_logits(
        logits, torch.where(known, targets, 0.0), reduction="none"
    )
    return torch.where(known, loss, 0.0).sum() / known.sum().clamp(min=1)


def info_nce(
    images: torch.Tensor,
    texts: torch.Tensor,
    scale: torch.Tensor | float,
    *,
    caption: torch.Tensor | None = None,
    text_weight: float = 0.5,
) -> torch.Tensor:
    """Contrast every pair with the other pairs of its batch (van den Oord et al., 2018; Radford et al., 2021).

    With s_ij = scale <image_i, text_j>, the mean over i of ::

        text_weight * -log(exp s_ii / sum_j exp s_ji) + (1 - text_weight) * -log(exp s_ii / sum_j exp s_ij)

    where pairs j != i of pair i's own caption are left out of both sums: an image is no
    counterexample to a text that is true of it.

    Args:
        images: Image vectors of length 1, (B, d); row k belongs to ``texts[k]``.
        texts: Text vectors of length 1, (B, d).
        scale: Inverse temperature, exp of the learnt logarithm.
        caption: Which text each pair has, (B,), of any integer type; None where no two are alike.
        text_weight: Weight of the direction text to image, in [0, 1].

    Returns:
        Scalar; 0 where the batch holds one caption only.
    """
    logits = scale * images @ texts.T
    own = torch.arange(len(logits), device=logits.device)
    if caption is not None:
        alike = (caption[:, None] == caption) & (own[:, None] != own)
        logits = logits.masked_fill(alike, -torch.inf)
    to_image = functional.cross_entropy(logits.T, own)
    return text_weight * to_image + (1 - text_weight) * functional.cross_entropy(logits, own)
