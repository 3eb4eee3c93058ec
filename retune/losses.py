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
