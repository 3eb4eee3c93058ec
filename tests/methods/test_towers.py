"""Towers: no more than was declared, and what it gives is the backbone's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch

from retune import Strategy, load_backbone
from retune.backbones.base import Backbone
from retune.errors import StrategyError
from retune.methods.given import Need
from retune.methods.towers import Towers

TEXTS = ["No pleural effusion.", "Mild cardiomegaly with small effusions."]
ALL = frozenset(get_args(Need))

ASKED: dict[str, tuple[set[str], Callable[[Towers], Any]]] = {
    "texts": ({"texts", "joint"}, lambda t: t.texts(TEXTS)),
    "words": ({"tokens"}, lambda t: t.words(TEXTS)),
    "token_dim": ({"tokens"}, lambda t: t.token_dim),
    "word_dim": ({"tokens"}, lambda t: t.word_dim),
    "text_path": ({"text-gradients"}, lambda t: t.text_path()),
    "trainable_texts": ({"text-gradients"}, lambda t: t.trainable_texts()),
    "image_tower": ({"trainable-tower", "prompted-tower"}, lambda t: t.image_tower()),
}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("phantom-clip", device="cpu")


@pytest.fixture(scope="module")
def towers(backbone: Backbone) -> Towers:
    return Towers(backbone, ALL)


@pytest.mark.parametrize("asked", ASKED)
def test_what_was_not_declared_is_refused(backbone: Backbone, asked: str) -> None:
    enough, ask = ASKED[asked]
    with pytest.raises(StrategyError, match=r"asks for .* without declaring it in 'needs'") as caught:
        ask(Towers(backbone, ALL - enough))
    assert all(need in str(caught.value) for need in enough)
    for need in enough:
        assert ask(Towers(backbone, frozenset({need}))) is not None


def test_what_was_declared_is_what_these_settings_require(backbone: Backbone) -> None:
    from retune.runner.resolve import find_strategy

    cls: Any = find_strategy("linear-probe")[0]
    probe: Strategy = cls(start="zeros")
    with pytest.raises(StrategyError, match="texts"):
        Towers(backbone, probe.requires()).texts(TEXTS)
    assert Towers(backbone, cls(start="zero-shot").requires()).texts(TEXTS).shape == (2, 128)


def test_texts_are_the_backbone_s(backbone: Backbone, towers: Towers) -> None:
    assert towers.text_dim == 128
    torch.testing.assert_close(towers.texts(TEXTS), backbone.encode_texts(TEXTS))
    assert torch.equal(towers.texts(TEXTS[::-1]), towers.texts(TEXTS).flip(0))
    assert towers.texts([]).shape == (0, 128)


def test_words_and_sizes_are_the_backbone_s(backbone: Backbone, towers: Towers) -> None:
    words, mask = towers.words(TEXTS)
    expected, used = backbone.encode_words(TEXTS)
    assert torch.equal(words, expected)
    assert torch.equal(mask, used)
    assert words.shape[-1] == towers.word_dim
    pixels = torch.zeros(1, 128, 128, dtype=torch.uint8)
    assert backbone.encode_tokens(pixels).shape[-1] == towers.token_dim


def test_the_frozen_text_path_is_shared_the_trainable_one_a_copy(backbone: Backbone, towers: Towers) -> None:
    before = backbone.encode_texts(TEXTS)
    trained = towers.trainable_texts()
    torch.testing.assert_close(trained.encode(*trained.embed(TEXTS)), before)
    with torch.no_grad():
        for parameter in trained.module.parameters():
            parameter.add_(0.1)
    assert not torch.allclose(trained.encode(*trained.embed(TEXTS)), before, atol=1e-2)
    path = towers.text_path()
    torch.testing.assert_close(path.encode(*path.embed(TEXTS)), before)
    assert torch.equal(backbone.encode_texts(TEXTS), before)
    theirs = {p.data_ptr() for p in trained.module.parameters()}
    assert theirs.isdisjoint(p.data_ptr() for p in path.module.parameters())


def test_a_trained_text_tower_has_gradients(towers: Towers) -> None:
    path = towers.trainable_texts()
    path.module.requires_grad_(True)
    path.encode(*path.embed(TEXTS)).square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in path.module.parameters())
    assert all(p.grad is None for p in towers.text_path().module.parameters())


def test_the_image_tower_is_a_trainable_copy(backbone: Backbone, towers: Towers) -> None:
    pixels = torch.randint(0, 256, (2, 128, 128), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    before = backbone.encode_images(pixels)
    first, second = towers.image_tower(), towers.image_tower()
    torch.testing.assert_close(first(pixels), before, rtol=1e-4, atol=1e-5)
    assert all(p.requires_grad for p in first.parameters())
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.mul_(1.5)
    assert not torch.allclose(first(pixels), before, atol=1e-2)
    torch.testing.assert_close(second(pixels), before, rtol=1e-4, atol=1e-5)
    assert torch.equal(backbone.encode_images(pixels), before)
