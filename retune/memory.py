"""What a method keeps of past patients, and how much of it: privacy is part of a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

PREFIX: Final = "memory."
"""Keys of :meth:`retune.Strategy.state_dict` that hold something of single past images."""


@dataclass(frozen=True)
class Stored:
    """What of single past images a state holds.

    Args:
        images: How many are kept as pictures, under ``memory.pixels``.
        features: How many are kept as vectors or tokens, under ``memory.features`` or ``memory.tokens``.
        bytes: Size of everything under ``memory.``, labels and scores of past images included.
    """

    images: int = 0
    features: int = 0
    bytes: int = 0

    def most(self, other: Stored) -> Stored:
        """The larger of each count."""
        return Stored(
            max(self.images, other.images),
            max(self.features, other.features),
            max(self.bytes, other.bytes),
        )


def metered(state: Mapping[str, Any]) -> Stored:
    """Count what a strategy's state keeps of single past images.

    Args:
        state: As given by :meth:`retune.Strategy.state_dict`.
    """
    kept = {k: v for k, v in state.items() if k.startswith(PREFIX) and isinstance(v, torch.Tensor)}
    rows = {kind: len(kept.get(PREFIX + kind, ())) for kind in ("pixels", "features", "tokens")}
    size = sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
    return Stored(rows["pixels"], max(rows["features"], rows["tokens"]), size)
