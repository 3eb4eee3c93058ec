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


def alignment(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Pull every image towards its own text, without negatives (Liu et al., M-FLAG, arXiv 2307.08347).

    With u and w the vectors scaled to length 1, |u - w|^2 = 2 - 2 cos(v, t). The authors' code adds the
    direction image to text and the direction text to image and stops no gradient in either; so they
    are the same number, and the loss is the mean over the batch of 4 - 4 cos(v_i, t_i).

    Args:
        images: Image vectors, not normalised, (B, d).
        texts: Their texts' vectors, not normalised, (B, d).

    Returns:
        Scalar in [0, 8].
    """
    return (4 - 4 * functional.cosine_similarity(images, texts, dim=1)).mean()


def orthogonality(latent: torch.Tensor, off_diagonal: float = 0.0051) -> torch.Tensor:
    """Keep the dimensions of a latent space apart and of one size (Liu et al., M-FLAG, arXiv 2307.08347).

    With the latent Z, B images by D dimensions, neither centred nor scaled, and C = Z'Z / B::

        1/2 [ sum_i (C_ii - 1)^2 + off_diagonal * sum_{i != j} C_ij^2 ]

    Args:
        latent: Z, (B, D).
        off_diagonal: Weight of what stands off the diagonal; Barlow Twins' (Zbontar et al., 2021).

    Returns:
        Scalar; a sum over dimensions, so it grows with D.
    """
    products = latent.T @ latent / len(latent)
    diagonal = products.diagonal()
    apart = products.square().sum() - diagonal.square().sum()
    return ((diagonal - 1).square().sum() + off_diagonal * apart) / 2
