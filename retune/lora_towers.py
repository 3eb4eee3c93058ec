"""Both towers of a backbone in one learnt space: the image side frozen or trained, the text side under LoRA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from retune.errors import StrategyError
from retune.methods.given import Context, Images, Lazy
from retune.methods.lora import LoraTexts
from retune.projections import Projections

CHUNK = 64


class LoraTowers:
    """A text tower with LoRA, an image tower or its cached features, and linear projections of both.

    Everything is frozen but inside :meth:`training`.

    Args:
        context: Of the run; its seed decides how everything starts.
        rank: r of LoRA.
        alpha: LoRA's updates are scaled by alpha / r.
        dropout: Of LoRA's inputs.
        width: Dimension of the learnt space.
        alike: Start both projections as one isometry, where the backbone's space is joint already.
        pixels: Train the image tower on pictures; otherwise its cached features are projected.
    """

    def __init__(
        self,
        context: Context,
        *,
        rank: int,
        alpha: float,
        dropout: float,
        width: int,
        alike: bool,
        pixels: bool,
    ) -> None:
        towers = context.towers
        if towers is None:
            raise StrategyError("there are no towers to adapt")
        self.device, self.pixels = context.device, pixels
        self.alike = alike and "joint" in towers.backbone.capabilities
        generator = torch.Generator().manual_seed(context.seed)
        self.path = LoraTexts(
            towers.trainable_texts(), rank=rank, alpha=alpha, dropout=dropout, generator=generator
        )
        self.heads = Projections(
            context.dim, towers.text_dim, width, alike=self.alike, generator=generator
        ).to(context.device)
        self.tower = towers.image_tower() if pixels else nn.Identity()
        modules = {"heads": self.heads, "tower": self.tower}
        named = {f"{side}.{k}": p for side, module in modules.items() for k, p in module.named_parameters()}
        self.weights: dict[str, nn.Parameter] = named | {f"lora.{k}": p for k, p in self.path.weights.items()}
        self._require_grad(False)

    def inputs(self, images: Images) -> torch.Tensor | Lazy:
        """What :meth:`image` takes, to be indexed: pictures, or cached features."""
        return images.pixels if self.pixels else images.features

    def image(self, inputs: torch.Tensor) -> torch.Tensor:
        """Unit vectors of B images, (B, width)."""
        return self.heads.project("image", self.tower(inputs))

    @torch.no_grad()
    def images(self, images: Images) -> torch.Tensor:
        """Unit vectors of all N images, (N, width), without gradients."""
        inputs, batches = self.inputs(images), torch.arange(len(images)).split(CHUNK)
        return torch.cat([self.image(inputs[batch]) for batch in batches])

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors of P texts, (P, width)."""
        words, mask = self.path.embed(texts)
        return self.project(self.path.encode(words.to(self.device), mask))

    def project(self, texts: torch.Tensor) -> torch.Tensor:
        """Unit vectors of P texts that the tower encoded already, (P, d_text) to (P, width)."""
        return self.heads.project("text", texts)

    def scale(self) -> torch.Tensor:
        """The inverse temperature, at most 100."""
        return self.heads.inverse_temperature()

    @contextmanager
    def training(self, generator: torch.Generator) -> Iterator[None]:
        """With gradients to :attr:`weights`, and LoRA's dropout.

        Args:
            generator: Source of the dropout.
        """
        self._require_grad(True)
        try:
            with self.path.dropping(generator):
                yield
        finally:
            self._require_grad(False)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Projections, updates, and the image tower's weights where it is trained."""
        return {name: weight.data for name, weight in self.weights.items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up what :meth:`state_dict` gave, among other keys or not."""
        for name, weight in self.weights.items():
            weight.data.copy_(state[name])

    def trainable_parameters(self) -> int:
        """Of everything that :meth:`training` trains."""
        return sum(weight.numel() for weight in self.weights.values())

    def _require_grad(self, wanted: bool) -> None:
        for weight in self.weights.values():
            weight.requires_grad_(wanted)
