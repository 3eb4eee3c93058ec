"""The image half of a pair: any of several libraries' towers behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from retune.backbones.towers import as_maps
from retune.errors import UserError, gist

Reader = Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]
"""From a tower and normalised pictures to their vectors (B, d) and their patches' (B, T, w)."""


class ImageTower(nn.Module):
    """A tower that takes uint8 pictures.

    Args:
        trunk: The tower as its library makes it.
        read: How its output becomes vectors.
        mean: Of pixels in 0..1, per channel; as many as the tower has channels.
        std: Standard deviations of the same.
    """

    def __init__(self, trunk: nn.Module, read: Reader, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.trunk = trunk
        self._read = read
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32)[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Vectors (B, d) of uint8 (B, S, S) pictures, not normalised."""
        return self.both(pixels)[0]

    def maps(self, pixels: Tensor) -> Tensor:
        """Embedded patches of uint8 (B, S, S) in their places, float32 (B, w, g, g)."""
        return as_maps(self.both(pixels)[1])

    def both(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, d) of uint8 (B, S, S) pictures and of their patches (B, T, w), row by row."""
        grey = pixels.to(self.mean.device)[:, None].float().div(255)
        features, patches = self._read(self.trunk, (grey - self.mean) / self.std)
        return features.float(), patches.float()


class VisionTower(ABC):
    """A vision tower, found but not loaded until it is asked to encode.

    Args:
        name: As it stands in a pair's name, e.g. ``hf-hub:ORG/REPO``.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    @abstractmethod
    def size(self) -> int:
        """Input side S in pixels."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of weights, architecture and preprocessing."""

    @property
    def weights(self) -> Path | None:
        """The one file of its weights, where there is one that others may have too."""
        return None

    @abstractmethod
    def preprocess(self, image: Image.Image) -> Tensor:
        """One 8-bit grey picture of any size as uint8 (S, S)."""

    @abstractmethod
    def load(self) -> ImageTower:
        """The tower with its weights, on the CPU, to be made once.

        Raises:
            UserError: If the weights are damaged, or not those of this architecture.
        """

    @abstractmethod
    def build(self) -> ImageTower:
        """The tower with random weights, built on whatever device is torch's default."""

    @cached_property
    def shapes(self) -> tuple[int, int, int]:
        """Dimensions of an image's and of a patch's vector, and the number of parameters.

        Computed without weights: nothing is read or multiplied on torch's ``meta`` device.

        Raises:
            UserError: If the tower cannot take the pictures that its own preprocessing makes.
        """
        with torch.device("meta"):
            tower = self.build().eval()
            try:
                with torch.inference_mode():
                    pixels = torch.zeros(1, self.size, self.size, dtype=torch.uint8)
                    features, patches = tower.both(pixels)
            except Exception as error:
                raise UserError(
                    f"cannot take pictures of {self.size} x {self.size} pixels, which its own preprocessing "
                    f"makes ({gist(error)})",
                    where=self.name,
                ) from error
        return features.shape[1], patches.shape[2], sum(p.numel() for p in tower.parameters())


def flat(maps: Tensor) -> Tensor:
    """Feature maps (B, w, H, W) as patches (B, H * W, w), row by row; patches stay as they are."""
    return maps.flatten(2).transpose(1, 2) if maps.ndim == 4 else maps
