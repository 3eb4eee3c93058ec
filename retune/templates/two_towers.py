"""A backbone of your own: an image tower and a text tower with one joint space."""

from collections.abc import Sequence
from functools import cached_property
from zlib import crc32

import numpy as np
import torch
from PIL import Image

from retune import Backbone, BackboneCard
from retune.backbones.files import fingerprint, tensor_digest

SIDE, DIM, WORDS = 32, 64, 4096


class TwoTowers(Backbone):
    """What ``retune show`` prints. As it is, two random projections: put your towers in their place."""

    name = "two-towers"
    capabilities = frozenset({"features", "texts", "joint", "pixels"})
    card = BackboneCard(
        source="where weights and description come from",
        licence="of the weights",
        pretraining_data=(
            "unknown",
        ),  # or ("none",), or what it saw: names as `retune list datasets` has them
        image_size=SIDE,
        dim=DIM,
    )

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:  # read when something is first encoded, never in __init__
        # Yours: safetensors.torch.load_file(Path(__file__).with_name("two_towers.safetensors"))
        generator = torch.Generator().manual_seed(0)
        shapes = {"image": (SIDE * SIDE, DIM), "text": (WORDS, DIM)}
        return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}

    @cached_property
    def fingerprint(self) -> str:  # of all that decides a vector: weights, and preprocessing by its version
        return fingerprint({"adapter": 1, "weights": tensor_digest(self.weights)})

    @property
    def parameters(self) -> int:
        return (SIDE * SIDE + WORDS) * DIM

    def preprocess(self, image: Image.Image) -> torch.Tensor:  # 8-bit grey to uint8 (S, S); no weights needed
        return torch.from_numpy(np.array(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:  # uint8 (B, S, S) to float32 (B, d)
        with torch.inference_mode():
            return (pixels.flatten(1) / 127.5 - 1) @ self.weights["image"]

    def encode_texts(
        self, texts: Sequence[str]
    ) -> torch.Tensor:  # P texts to float32 (P, d), each for itself
        rows = [[crc32(word.encode()) % WORDS for word in text.lower().split()] or [0] for text in texts]
        return torch.stack([self.weights["text"][row].mean(0) for row in rows])
