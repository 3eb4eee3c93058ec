"""Low-rank updates: they start as nothing, are all that is trained, and sit where attention begins."""

from __future__ import annotations

import builtins
import copy
from typing import Any

import pytest
import torch
import transformers
from retune.strategies.cleft import LoraTexts
from torch import nn

from retune import load_backbone
from retune.errors import MissingPackage, UserError
from retune.methods.lora import add_lora
from retune.methods.towers import Towers

TEXTS = ["no pneumothorax", "the heart is large"]
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 48}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def adapted(dropout: float = 0.0, seed: int = 0) -> tuple[Any, LoraTexts]:
    """phantom-clip's text tower and a copy of it with LoRA."""
    backbone = load_backbone("phantom-clip", device="cpu")
    towers = Towers(backbone, backbone.capabilities)
    made = LoraTexts(towers.trainable_texts(), rank=4, alpha=8, dropout=dropout, generator=seeded(seed))
    return towers.text_path(), made


def small(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "gpt2":
        config: Any = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=40, vocab_size=50)
        return transformers.GPT2Model(config).eval()
    if kind == "bert":
        return transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=50)).eval()
    clip = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(**SMALL, vocab_size=50, max_position_embeddings=9)
    )
    return clip.eval()


# Per layer: r (in + out) for each matrix, by hand.
@pytest.mark.parametrize(
    ("kind", "per_layer"), [("gpt2", 4 * (32 + 96)), ("bert", 3 * 4 * 64), ("clip", 3 * 4 * 64)]
)
def test_updates_sit_on_the_input_projections_only(kind: str, per_layer: int) -> None:
    model = small(kind)
    ids = torch.tensor([[5, 7, 9, 2]])
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        untouched = model(input_ids=ids).last_hidden_state
    weights = add_lora(model, rank=4, alpha=8, dropout=0.1)
    assert sum(w.numel() for w in weights.values()) == 2 * per_layer
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(weights)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).last_hidden_state, untouched, rtol=0, atol=1e-6)
    after = {name.replace(".base_layer", ""): value for name, value in model.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_gpt2_layer_becomes_w_plus_scaled_b_a() -> None:
    model = small("gpt2")
    layer = model.h[0].attn.c_attn  # type: ignore[union-attr,index]
    weight, bias = layer.weight.clone(), layer.bias.clone()
    weights = add_lora(model, rank=4, alpha=8, dropout=0.0)
    b = weights["h.0.attn.c_attn.lora_B.default.weight"]
    a = weights["h.0.attn.c_attn.lora_A.default.weight"]
    nn.init.normal_(b, generator=seeded())
    x = torch.randn(3, 32, generator=seeded(1))
    expected = x @ (weight.T + 8 / 4 * b @ a).T + bias
    torch.testing.assert_close(model.h[0].attn.c_attn(x), expected)  # type: ignore[union-attr,index]


def test_packed_attention_becomes_w_plus_scaled_b_a() -> None:
    frozen, made = adapted()
    words, mask = frozen.embed(TEXTS)
    torch.testing.assert_close(made.encode(words, mask), frozen.encode(words, mask), rtol=0, atol=1e-5)
    for weight in made.weights.values():
        nn.init.normal_(weight, std=0.1, generator=seeded())
    # The same tower with the updates added to its own weights.
    merged = Towers(
        load_backbone("phantom-clip", device="cpu"), frozenset({"text-gradients"})
    ).trainable_texts()
    with torch.no_grad():
        for k in range(2):
            name = f"transformer.resblocks.{k}.attn"
            a, b = (made.weights[f"{name}.lora_{x}.default.weight"] for x in "AB")
            merged.module.get_parameter(f"{name}.in_proj_weight").add_(8 / 4 * b @ a)
    found = made.encode(words, mask)
    torch.testing.assert_close(found, merged.encode(words, mask), rtol=0, atol=1e-4)
    assert (found - frozen.encode(words, mask)).abs().max() > 0.01


def test_training_touches_the_updates_alone_to_the_last_bit() -> None:
    frozen, made = adapted()
    # The image tower beside it has no update.
    assert all(name.startswith("transformer.") for name in made.weights)
    assert len(made.weights) == 4
    words, mask = made.embed(TEXTS)
    optim = torch.optim.Adam(made.weights.values(), lr=0.01)
    for _ in range(3):
        optim.zero_grad()
        made.encode(words, mask).square().mean().backward()
        optim.step()
    after = {name.replace(".base_layer", ""): p for name, p in made.module.named_parameters()}
    for name, parameter in frozen.module.named_parameters():
        assert torch.equal(after[name], parameter), name
        assert after[name].grad is None
    assert all(b.abs().max() > 0 for name, b in made.weights.items() if "lora_B" in name)


def test_weights_come_from_the_generator_alone() -> None:
    (_, one), (_, two), (_, other) = adapted(seed=1), adapted(seed=1), adapted(seed=2)
    assert all(torch.equal(value, two.weights[name]) for name, value in one.weights.items())
    assert any(not torch.equal(value, other.weights[name]) for name, value in one.weights.items())
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())


class Bare:
    """A text path over a small GPT-2."""

    width = 32

    def __init__(self) -> None:
        self.module = small("gpt2")

    def embed(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(len(texts), 4, 32, generator=seeded(3)), torch.ones(
            len(texts), 4, dtype=torch.bool
        )

    def encode(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.module(inputs_embeds=words).last_hidden_state[:, -1]
        return out


def test_only_the_updates_drop_and_only_while_training() -> None:
    path, state = Bare(), torch.get_rng_state()
    made = LoraTexts(path, rank=4, alpha=8, dropout=0.5, generator=seeded())  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), state)
    for weight in made.weights.values():
        nn.init.normal_(weight, generator=seeded())
    words, mask = made.embed(["a", "b"])
    plain, state = made.encode(words, mask), torch.get_rng_state()
    with made.dropping(seeded(1)):
        first, second = made.encode(words, mask), made.encode(words, mask)
        assert [
            name for name, m in made.module.named_modules() if m.training and not name.endswith("default")
        ] == []
    with made.dropping(seeded(1)):
        again = made.encode(words, mask)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(made.encode(words, mask), plain)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_tower_without_known_attention_is_refused() -> None:
    with pytest.raises(UserError, match="no attention that LoRA knows"):
        add_lora(nn.Sequential(nn.Linear(3, 3)), rank=2, alpha=2, dropout=0.0)


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "peft":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingPackage, match=r"pip install .*\[peft\]'"):
        add_lora(small("gpt2"), rank=2, alpha=2, dropout=0.0)
