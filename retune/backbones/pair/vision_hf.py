"""Vision towers in transformers' format: DINOv2, ViT, ResNet, Swin, and the vision halves of CLIP and SigLIP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from retune.backbones.hf.files import HfFiles, find_hf_files, fingerprint_of
from retune.backbones.hf.load import (
    class_of,
    config_of,
    kind_of,
    load_image_processor,
    load_strictly,
    refuse_code,
    with_files,
)
from retune.backbones.pair.vision import ImageTower, VisionTower, flat
from retune.errors import UserError, gist

ADAPTER: Final = "pair vision of transformers/1"
"""Enters every fingerprint; goes up whenever this file would turn the same weights into other features."""


@dataclass(frozen=True)
class _Kind:
    """How a model type is built and read.

    Args:
        model: Its class in transformers.
        image: An image's vector: the first token after the last norm, or what the model itself pools.
        ahead: How many tokens stand before the patches.
        options: Further arguments of the class.
    """

    model: str
    image: Literal["first", "pooled"]
    ahead: Callable[[Any], int] = lambda config: 0
    options: tuple[tuple[str, Any], ...] = ()


_SQUARE: Final = 'set "do_center_crop" and "crop_size", or a "size" of height and width'
_CLIP: Final = _Kind("CLIPVisionModel", "pooled", lambda config: 1)
_SIGLIP: Final = _Kind("SiglipVisionModel", "pooled")
KINDS: Final[dict[str, _Kind]] = {
    "dinov2": _Kind("Dinov2Model", "first", lambda config: 1),
    "dinov2_with_registers": _Kind(
        "Dinov2WithRegistersModel", "first", lambda config: 1 + int(config.num_register_tokens)
    ),
    # A ViT's pooler is a head of its pre-training that many checkpoints lack.
    "vit": _Kind("ViTModel", "first", lambda config: 1, (("add_pooling_layer", False),)),
    "resnet": _Kind("ResNetModel", "pooled"),
    "swin": _Kind("SwinModel", "pooled"),
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
}


class HfVision(VisionTower):
    """A vision tower that transformers can load.

    Args:
        name: ``hf-hub:ORG/REPO`` or ``local-dir:PATH``.
    """

    @cached_property
    def files(self) -> HfFiles:
        """Configuration, weights and image processor; found, and downloaded if need be, at first use."""
        return find_hf_files(self.name, text=False)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, configuration, image processor and this adapter."""
        return fingerprint_of(ADAPTER, self.files)

    @cached_property
    def size(self) -> int:
        """The side of the pictures that the image processor makes."""
        shapes = {tuple(self._processed(Image.new("L", size)).shape) for size in ((90, 60), (60, 90))}
        if len(shapes) > 1 or len(side := set(min(shapes))) > 1:
            raise UserError(
                "its image processor does not make square pictures of one size",
                where=self.files.where,
                fix=_SQUARE,
            )
        return int(side.pop())

    def preprocess(self, image: Image.Image) -> Tensor:
        """Resized and cropped by the model's own image processor; uint8 (S, S)."""
        made = self._processed(image)
        if made.shape != (self.size, self.size):
            raise UserError(
                f"its image processor makes a picture of {'x'.join(map(str, made.shape))}, not of {self.size}",
                where=self.files.where,
                fix=_SQUARE,
            )
        return torch.from_numpy(made)

    def build(self) -> ImageTower:
        """The tower with random weights."""
        return with_files(
            lambda _: self._tower(self._class(self._config, **dict(self._kind.options))),
            "transformers cannot build this model",
            self.files,
        )

    def load(self) -> ImageTower:
        """The tower with its weights, float32."""
        model = load_strictly(self._class, self.files, config=self._config, **dict(self._kind.options))
        return self._tower(model)

    def _processed(self, image: Image.Image) -> np.ndarray:
        processor, grey = self._processor, image.convert("L").convert("RGB")
        try:
            made = processor(images=[grey], do_rescale=False, do_normalize=False, return_tensors="np")
        except Exception as error:
            raise UserError(
                f"its image processor cannot take a picture ({gist(error)})", where=self.files.where
            ) from error
        pixels: np.ndarray = np.rint(np.asarray(made["pixel_values"][0][0])).clip(0, 255).astype(np.uint8)
        return pixels

    @cached_property
    def _processor(self) -> Any:
        refuse_code(self.files, "preprocessor_config.json", "processor_config.json")
        return load_image_processor(self.files)

    @cached_property
    def _kind(self) -> _Kind:
        kind: _Kind = kind_of(self.files, KINDS, "vision tower")
        return kind

    @property
    def _class(self) -> Any:
        return class_of(self._kind.model, self.files)

    @cached_property
    def _config(self) -> Any:
        return config_of(self._class, self.files)

    def _tower(self, model: nn.Module) -> ImageTower:
        """Rescaling and normalising as the image processor would, of pixels in 0..1."""
        given = self._processor
        scale = 255.0 * float(given.rescale_factor) if given.do_rescale else 255.0
        mean, std = (given.image_mean, given.image_std) if given.do_normalize else ((0.0,) * 3, (1.0,) * 3)
        read = partial(_read, image=self._kind.image, ahead=self._kind.ahead(self._config))
        return ImageTower(model, read, [m / scale for m in mean], [s / scale for s in std])


def _read(model: nn.Module, images: Tensor, *, image: str, ahead: int) -> tuple[Tensor, Tensor]:
    out = model(pixel_values=images)
    patches = out.last_hidden_state
    features = patches[:, 0] if image == "first" else out.pooler_output.flatten(1)
    return features, flat(patches if patches.ndim == 4 else patches[:, ahead:])
