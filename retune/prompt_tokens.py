"""Learnt tokens beside the patches of a vision transformer."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from retune.errors import UserError

KINDS: Final = frozenset({
    "VisionTransformer", "VisionTransformerDistilled",  # open_clip, timm
    "ViTModel", "Dinov2Model", "Dinov2WithRegistersModel",
    "CLIPVisionModel", "CLIPVisionTransformer", "SiglipVisionModel", "SiglipVisionTransformer",
})  # fmt: skip
"""Classes that add positions once, before the first block; after that, a token's place does not matter."""

BLOCKS: Final = ("transformer.resblocks", "blocks", "encoder.layer", "encoder.layers", "layers")
"""Where they keep their blocks: open_clip, timm, and transformers in several versions."""

NORMS: Final = ("ln_post", "fc_norm", "norm", "post_layernorm", "layernorm")
"""What they call the norm after the last block; timm has two, one of which is the identity."""


class PromptedTower(nn.Module):
    """A frozen vision transformer that takes further tokens beside its own.

    They enter the first block with the class token and the patches, to which positions were added already, as
    in shallow visual prompt tuning (Jia et al., ECCV 2022, arXiv 2203.12119). After the last block they are
    taken out again, so that the tower pools what it always pools.

    Args:
        tower: uint8 (B, S, S) to (B, d), as :meth:`retune.methods.towers.Towers.image_tower` gives it. It is frozen
            and put into evaluation mode.

    Raises:
        UserError: If it is no vision transformer that is known here.
    """

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower.requires_grad_(False).eval()
        known = (part for part in tower.modules() if type(part).__name__ in KINDS)
        found = ((_first(part, BLOCKS, "__len__"), _first(part, NORMS, "weight")) for part in known)
        blocks, norm = next((both for both in found if None not in both), (None, None))
        if blocks is None or norm is None:
            raise UserError(
                f"the image tower ({_name(tower)}) has no sequence of tokens that prompts could be added to",
                fix="choose a backbone with a vision transformer: open_clip's or timm's VisionTransformer, or "
                "transformers' ViT, DINOv2, CLIP or SigLIP",
            )
        self._ends = (blocks[0], blocks[-1], norm)
        self.width: int = len(norm.weight)

    def forward(self, pixels: torch.Tensor, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed pictures together with prompts.

        Args:
            pixels: uint8 (B, S, S).
            prompts: (B, P, w); gradients go to them.

        Returns:
            The pictures' vectors, (B, d), and what became of the prompts, after the last norm, (B, P, w).
        """
        first, last, norm = self._ends
        count, made = prompts.shape[1], []

        def add(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            return torch.cat([given[0], prompts.to(given[0])], dim=1), *given[1:]

        def take(_: nn.Module, __: Any, out: Any) -> Any:
            tokens = out[0] if isinstance(out, tuple) else out
            made.append(tokens[:, -count:])
            rest = tokens[:, :-count]
            return (rest, *out[1:]) if isinstance(out, tuple) else rest

        hooks = (first.register_forward_pre_hook(add), last.register_forward_hook(take))
        try:
            vectors = self.tower(pixels)
        finally:
            for hook in hooks:
                hook.remove()
        return vectors, norm(made[0]).float()


def _first(module: nn.Module, names: tuple[str, ...], having: str) -> Any:
    """The first part of a module, under one of some names, that has an attribute; None where there is none."""
    for name in names:
        part: Any = module
        for step in name.split("."):
            part = getattr(part, step, None)
        if hasattr(part, having):
            return part
    return None


def _name(tower: nn.Module) -> str:
    """What the tower inside of one is called."""
    inner: Any = tower
    for step in ("visual", "trunk", "tower"):
        inner = getattr(inner, step, inner)
    return type(inner).__name__
