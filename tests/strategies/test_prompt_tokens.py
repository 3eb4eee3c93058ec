"""Tokens beside the patches: the towers do with them what their own blocks would, and give theirs as before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_towers import pair, pixels_of
from retune.strategies.l2p import PromptedTower
from torch import nn

from retune import load_backbone
from retune.check.tower import SmallTower
from retune.errors import UserError

# Blocks and last norm, as the libraries call them.
PLACES = {
    "open_clip": ("visual.transformer.resblocks", "visual.ln_post"),
    "dinov2": ("trunk.encoder.layer", "trunk.layernorm"),
    "registers": ("trunk.encoder.layer", "trunk.layernorm"),
    "siglip": ("trunk.encoder.layers", "trunk.post_layernorm"),
    "test_vit": ("trunk.blocks", "trunk.norm"),
    "test_vit4": ("trunk.blocks", "trunk.fc_norm"),
}


def tower_and_pictures(kind: str, towers: Callable[[str], Path]) -> tuple[nn.Module, torch.Tensor]:
    if kind == "open_clip":
        pixels = torch.randint(0, 256, (3, 128, 128), generator=torch.Generator().manual_seed(0))
        return SmallTower().image_tower(), pixels.to(torch.uint8)
    backbone = pair(towers, kind)
    return backbone.image_tower(), pixels_of(backbone)


@pytest.mark.parametrize("kind", PLACES)
def test_prompts_go_through_the_blocks_with_the_patches(kind: str, towers: Callable[[str], Path]) -> None:
    tower, pixels = tower_and_pictures(kind, towers)
    tower.requires_grad_(False)
    blocks, norm = (tower.get_submodule(name) for name in PLACES[kind])
    entered: list[torch.Tensor] = []
    hook = next(blocks.children()).register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    with torch.no_grad():
        plain = tower(pixels)
    hook.remove()
    prompted = PromptedTower(tower)
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randn(3, 5, prompted.width, generator=generator, requires_grad=True)
    vectors, made = prompted(pixels, prompts)
    # In front here, and the blocks called by hand.
    tokens: Any = torch.cat([prompts, entered[0]], dim=1)
    for block in blocks.children():
        tokens = block(tokens, attention_mask=None) if kind == "siglip" else block(tokens)
    torch.testing.assert_close(made, norm(tokens[:, :5]), rtol=1e-4, atol=1e-5)
    maps = prompted.maps(pixels, prompts).flatten(2).mT
    patches = tokens[:, -maps.shape[1] :]
    # timm's fc_norm comes after pooling.
    patches = patches if kind == "test_vit4" else norm(patches)
    torch.testing.assert_close(maps, patches, rtol=1e-4, atol=1e-5)
    assert vectors.shape == plain.shape
    assert not torch.equal(vectors, plain)
    made.sum().backward()
    assert prompts.grad is not None
    # Nothing is left behind.
    with torch.no_grad():
        assert torch.equal(tower(pixels), plain)


@pytest.mark.parametrize("kind", ["phantom-clip", "resnet", "swin"])
def test_towers_without_such_a_sequence_are_refused(kind: str, towers: Callable[[str], Path]) -> None:
    backbone = load_backbone(kind, device="cpu") if kind == "phantom-clip" else pair(towers, kind)
    with pytest.raises(
        UserError, match=r"has no sequence of tokens .* choose a backbone with a vision transf"
    ):
        PromptedTower(backbone.image_tower())


def test_a_failure_leaves_no_hook(towers: Callable[[str], Path]) -> None:
    tower, pixels = tower_and_pictures("open_clip", towers)
    prompted, plain = PromptedTower(tower), tower(pixels)
    with pytest.raises(RuntimeError):
        prompted(pixels, torch.zeros(3, 2, prompted.width + 1))
    assert torch.equal(tower(pixels), plain)
