"""LoRA in image towers: where the updates sit, that they are W + B A, and that all else stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_towers import pair
from open_clip.modified_resnet import ModifiedResNet
from retune.strategies.lora import image_lora
from torch import nn

from retune import load_backbone
from retune.backbones.openclip.towers import patch_tokens
from retune.backbones.towers import ImageTower
from retune.check.tower import SmallTower
from retune.errors import UserError

R = 3


def tower(kind: str, towers: Callable[[str], Path]) -> tuple[nn.Module, int]:
    if kind == "open_clip":
        return SmallTower().image_tower(), 128
    if kind == "open_clip resnet":
        torch.manual_seed(0)
        visual = ModifiedResNet(layers=[1, 1, 1, 1], output_dim=8, heads=4, image_size=64, width=8).eval()
        return ImageTower(visual, lambda images: images, patch_tokens), 64
    return pair(towers, kind).image_tower(), 56 if kind != "test_vit" else 160


# Of each matrix r (in + out), by hand from the made towers' widths.
@pytest.mark.parametrize(
    ("kind", "names", "count"),
    [
        ("open_clip", {"attn"}, 2 * R * (32 + 96)),
        ("dinov2", {"q_proj", "k_proj", "v_proj"}, 2 * 3 * R * 64),
        ("vit", {"q_proj", "k_proj", "v_proj"}, 2 * 3 * R * 64),
        ("test_vit", {"qkv"}, 6 * R * (64 + 192)),
        ("swin_tiny_patch4_window7_224", {"qkv"}, R * (8 + 24) + R * (16 + 48)),
        # Bottlenecks of planes 8 ... 64, four times as wide at their ends; its attention pool is no layer that runs.
        ("open_clip resnet", {"conv1", "conv3", "0"}, None),
        ("resnet", {"convolution"}, R * (8 + 16)),
    ],
)
def test_updates_sit_where_attention_begins_or_in_pointwise_convolutions(
    kind: str, names: set[str], count: int | None, towers: Callable[[str], Path]
) -> None:
    made, side = tower(kind, towers)
    pixels = torch.randint(0, 256, (2, side, side), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    before = {name: value.clone() for name, value in made.state_dict().items()}
    with torch.no_grad():
        plain = made(pixels)
    weights = image_lora(made, rank=R, alpha=6, side=side, generator=torch.Generator().manual_seed(0))
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in weights} == names
    if count is not None:
        assert sum(weight.numel() for weight in weights.values()) == count
    assert {name for name, p in made.named_parameters() if p.requires_grad} == set(weights)
    torch.testing.assert_close(made(pixels), plain, rtol=0, atol=1e-5)
    made(pixels).square().sum().backward()
    assert all(weight.grad is not None for weight in weights.values())
    after = {name.replace(".base_layer", ""): value for name, value in made.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_phantom_clip_becomes_the_tower_with_the_updates_added() -> None:
    backbone = load_backbone("phantom-clip", device="cpu")
    plain, adapted = (backbone.image_tower() for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    weights = image_lora(adapted, rank=4, alpha=8, side=128, generator=generator)
    convolutions = {
        n for n, m in plain.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)
    }
    assert {name.split(".lora_")[0] for name in weights} == convolutions
    assert len(convolutions) > 20
    pixels = torch.randint(0, 256, (4, 128, 128), generator=generator).to(torch.uint8)
    with torch.no_grad():
        start = plain(pixels)
        for name in convolutions:
            a, b = (weights[f"{name}.lora_{x}.default.weight"] for x in "AB")
            b.normal_(std=0.02, generator=generator)
            layer: Any = plain.get_submodule(name)
            layer.weight += 8 / 4 * (b.flatten(1) @ a.flatten(1))[:, :, None, None]
        torch.testing.assert_close(adapted(pixels), plain(pixels), rtol=1e-3, atol=1e-4)
        assert (plain(pixels) - start).norm() > 0.01 * start.norm()


def test_a_tower_with_nothing_to_adapt_is_refused() -> None:
    layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    tower = ImageTower(layers, lambda images: images[:, 0], patch_tokens)
    with pytest.raises(UserError, match="no attention that LoRA knows"):
        image_lora(tower, rank=2, alpha=2, side=4, generator=torch.Generator())
