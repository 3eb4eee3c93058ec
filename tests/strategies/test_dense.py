"""What strategies say their image side has become: nothing at first, then what the learnt weights give, by hand."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from retune.check.tower import WIDTH
from retune.errors import UserError
from retune.methods.towers import tower_maps
from retune.plugins import registry
from retune.runner.resolve import find_strategy

if TYPE_CHECKING:
    from conftest import Lab

MOVING: dict[str, dict[str, Any]] = {
    "adaptor": {"inputs": "tokens", "width": 128},
    "lora": {"lr": 0.01},
    "m-flag": {"tower": "pixels", "hidden": 32, "joint": 16},
    "cleft": {"tower": "trained", "lr": 0.01},
    "l2p": {},
}
"""Those whose image side moves, with the settings with which it does."""
STILL = [("adaptor", {}), ("m-flag", {}), ("cleft", {}), ("cleft", {"tower": "trained", "stages": "prompts"})]
"""Those that can move and do not."""


def taught(lab: Lab, name: str) -> Any:
    strategy = lab.make(name, **MOVING[name])
    assert lab.dense(strategy) is None
    lab.fit(strategy, lab.stream(strategy)[:1])
    return strategy


def pixels(lab: Lab, strategy: Any) -> torch.Tensor:
    return lab.tests(strategy).pixels[torch.arange(lab.tested)]


def places(tokens: torch.Tensor) -> torch.Tensor:
    """Maps (B, w, 4, 4) of patches (B, 16, w), place by place."""
    maps = torch.empty(len(tokens), tokens.shape[2], 4, 4)
    for place in range(16):
        maps[:, :, place // 4, place % 4] = tokens[:, place]
    return maps


def by_open_clip(visual: Any, pixels: torch.Tensor, prompts: torch.Tensor | None = None) -> torch.Tensor:
    """Patches after the last norm: the tower's parts called one by one, prompts in front."""
    grey = pixels[:, None].float().div(255).expand(-1, 3, -1, -1)
    tokens = visual._embeds((grey - 0.5) / 0.3)
    if prompts is not None:
        tokens = torch.cat([prompts, tokens], dim=1)
    return places(visual.ln_post(visual.transformer(tokens))[:, -16:])


def require_moved(lab: Lab, strategy: Any, expected: torch.Tensor, start: torch.Tensor) -> None:
    found = lab.dense(strategy)
    assert found is not None
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - start).abs().max() > 1e-3


def untrained(lab: Lab, strategy: Any) -> torch.Tensor:
    with torch.no_grad():
        return lab.backbone.image_tower().maps(pixels(lab, strategy))  # type: ignore[operator]


@pytest.mark.parametrize("name", ["m-flag", "cleft"])
def test_a_trained_tower_gives_its_own_patches(lab: Lab, name: str) -> None:
    strategy = taught(lab, name)
    tower = strategy.parts["tower"] if name == "m-flag" else strategy.towers.tower
    fresh: Any = lab.backbone.image_tower()
    fresh.load_state_dict(tower.state_dict())
    with torch.no_grad():
        expected = by_open_clip(fresh.visual, pixels(lab, strategy))
    require_moved(lab, strategy, expected, untrained(lab, strategy))


def test_lora_gives_the_patches_of_the_tower_with_its_updates_added(lab: Lab) -> None:
    strategy = taught(lab, "lora")
    plain: Any = lab.backbone.image_tower()
    state = {key: value.double() for key, value in strategy.state_dict().items() if key.startswith("lora.")}
    with torch.no_grad():
        for k, block in enumerate(plain.visual.transformer.resblocks):
            a, b = (
                next(v for key, v in state.items() if f"resblocks.{k}." in key and f"lora_{x}" in key)
                for x in "AB"
            )
            # alpha / rank is 1.
            block.attn.in_proj_weight += (b @ a).float()
        expected = by_open_clip(plain.visual, pixels(lab, strategy))
    require_moved(lab, strategy, expected, untrained(lab, strategy))


def test_l2p_gives_the_patches_beside_the_prompts_that_an_image_picks(lab: Lab) -> None:
    strategy = taught(lab, "l2p")
    nn.init.normal_(strategy.prompts["key"], generator=torch.Generator().manual_seed(2))
    queries = normalize(lab.tests(strategy).features) @ normalize(strategy.prompts["key"]).T
    picked = queries.argsort(dim=1, descending=True)[:, : strategy.picked]
    with torch.no_grad():
        prompts = strategy.prompts["prompt"][picked].reshape(lab.tested, -1, WIDTH)
        expected = by_open_clip(copy.deepcopy(strategy.tower.tower.visual), pixels(lab, strategy), prompts)
    require_moved(lab, strategy, expected, untrained(lab, strategy))


def test_the_adaptor_gives_every_place_but_the_mean(lab: Lab) -> None:
    strategy = taught(lab, "adaptor")
    adaptor = strategy.adaptor
    tokens = lab.tests(strategy).tokens[torch.arange(lab.tested)]
    with torch.no_grad():
        x = tokens @ adaptor.image.weight.T
        x = normalize(torch.cat([x.mean(dim=1, keepdim=True), x], dim=1), dim=-1)
        for layer in adaptor.layers:
            attention = layer.self_attn
            q, k, v = (
                part.unflatten(2, (2, 64)).transpose(1, 2)
                for part in (x @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=2)
            )
            seen = ((q @ k.mT / 8).softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
            x = layer.norm1(x + attention.out_proj(seen))
            x = layer.norm2(x + layer.linear2(layer.linear1(x).relu()))
    require_moved(lab, strategy, places(x[:, 1:]), places(tokens)[:, :128])


@pytest.mark.parametrize(("name", "settings"), STILL)
def test_what_is_not_trained_does_not_move(lab: Lab, name: str, settings: dict[str, Any]) -> None:
    strategy = lab.make(name, **settings)
    lab.fit(strategy, lab.stream(strategy)[:1])
    assert lab.dense(strategy) is None


def test_every_strategy_that_says_so_is_tested_here() -> None:
    from retune import Strategy

    says = {n for n in registry("strategies").names() if find_strategy(n)[0].dense is not Strategy.dense}
    assert says == set(MOVING)


def test_a_tower_without_maps_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match=r"\(Linear\) gives one vector of a picture .*; choose a backbone"):
        tower_maps(nn.Linear(2, 2), torch.zeros(1, 4, 4, dtype=torch.uint8))
