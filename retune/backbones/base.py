"""What retune asks of a frozen vision-language model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from PIL import Image

if TYPE_CHECKING:
    import torch

Capability = Literal["features", "texts", "tokens", "text-gradients", "trainable-tower"]


@dataclass(frozen=True)
class BackboneCard:
    """What a reader must know of a backbone before trusting a number made with it.

    Args:
        source: Where weights and description come from.
        licence: Licence of the weights.
        pretraining_data: Data sets seen in pre-training; needed to flag contamination.
        image_size: Input side in pixels.
        dim: Dimension d of the joint space.
    """

    source: str
    licence: str
    pretraining_data: tuple[str, ...]
    image_size: int
    dim: int


class Backbone(ABC):
    """A frozen vision-language model.

    Making one is cheap: weights are read when something is first encoded, so that a run whose
    features are all in the store never loads the model.
    """

    name: str
    capabilities: frozenset[Capability] = frozenset({"features", "texts"})

    @property
    @abstractmethod
    def card(self) -> BackboneCard:
        """Licence, pre-training data, sizes."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of weights, architecture and preprocessing; no path or date enters it."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Number of parameters of both towers."""

    @abstractmethod
    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """One picture as the model wants it: float32 (3, S, S)."""

    @abstractmethod
    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed (B, 3, S, S) preprocessed pictures as float32 (B, d), not normalised."""

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Embed P texts as float32 (P, d), not normalised."""
