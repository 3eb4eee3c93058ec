"""How a latent space is used: by how many directions, and how much its dimensions repeat each other."""

from __future__ import annotations

import math
from typing import Any

import torch


def effective_rank(latent: torch.Tensor) -> float:
    """How many directions a matrix uses (Roy & Vetterli, "The effective rank", EUSIPCO 2007).

    exp(-sum_k p_k log p_k) with p_k = s_k / sum_j s_j of the singular values s. It is 1 for a matrix of
    rank one and r where r singular values are equal and the rest 0. The rows are not centred: a mean
    far from the origin is a direction too.

    Args:
        latent: Z, one row per image, (N, D).

    Returns:
        Between 1 and min(N, D); 0 where nothing but zeros is there.
    """
    values = torch.linalg.svdvals(latent.detach().double())
    total = values.sum()
    if not total > 0:
        return 0.0
    shares = values / total
    return float(torch.special.entr(shares).sum().exp())


def off_diagonal_correlation(latent: torch.Tensor) -> float:
    """Mean absolute Pearson correlation between two different dimensions of a latent space.

    Args:
        latent: Z, one row per image, (N, D). Dimensions that are the same for every image have no
            correlation and are left out.

    Returns:
        Between 0 and 1; NaN where fewer than two dimensions vary.
    """
    values = latent.detach().double()
    varying = (values != values[:1]).any(0)
    n = int(varying.sum())
    if n < 2:
        return float("nan")
    centred = values[:, varying] - values[:, varying].mean(0)
    unit = centred / torch.linalg.vector_norm(centred, dim=0)
    correlation = (unit.T @ unit).abs()
    return float((correlation.sum() - correlation.trace()) / (n * (n - 1)))


def geometry(latent: torch.Tensor) -> dict[str, Any]:
    """Both, and of how much, as JSON values; a correlation that is not defined is None.

    Args:
        latent: Z, one row per image, (N, D).
    """
    correlation = off_diagonal_correlation(latent)
    return {
        "measured_images": len(latent),
        "latent_dimensions": latent.shape[1],
        "effective_rank": effective_rank(latent),
        "off_diagonal_correlation": None if math.isnan(correlation) else correlation,
    }
