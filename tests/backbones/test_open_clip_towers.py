"""Patches, words, learnt prompts and trainable towers are those of open_clip, timm and transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from made_towers import require_maps
from torch import nn

from retune.backbones.load import load_backbone
from retune.backbones.openclip.model import OpenClip
from retune.errors import UserError

TEXTS = ["No pleural effusion.", "edema", "the heart is large . " * 9, "no edema"]
KINDS = ("plain", "timm", "bert")
INSIDE = {"tokens", "text-gradients", "trainable-tower"}


def load(folder: Path) -> OpenClip:
    backbone = load_backbone(f"local-dir:{folder}", device="cpu")
    assert isinstance(backbone, OpenClip)
    return backbone


def pictures(backbone: OpenClip, n: int = 4) -> torch.Tensor:
    side = backbone.card.image_size
    return torch.randint(
        0, 256, (n, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def standardised(pixels: torch.Tensor) -> torch.Tensor:
    """By the mean and deviation that the configurations name."""
    mean = torch.tensor([0.4, 0.5, 0.6])[:, None, None]
    deviation = torch.tensor([0.2, 0.25, 0.3])[:, None, None]
    return (pixels[:, None].float() / 255 - mean) / deviation


def upstream(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Model and tokenizer as open_clip's own documentation loads them."""
    monkeypatch.chdir(folder)
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    return model.eval(), open_clip.get_tokenizer(f"local-dir:{folder}")


def built(folder: Path, changes: dict[str, dict[str, Any]]) -> Path:
    """Write random weights for a folder whose configuration is changed."""
    from safetensors.torch import save_file

    path = folder / "open_clip_config.json"
    about = json.loads(path.read_text())
    for section, values in changes.items():
        about["model_cfg"][section] |= values
    path.write_text(json.dumps(about))
    torch.manual_seed(2)
    model = open_clip.CLIP(**json.loads(path.read_text())["model_cfg"])
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def test_patches_of_a_transformer_are_what_open_clip_pools(
    saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = upstream(saved["plain"], monkeypatch)
    backbone = load(saved["plain"])
    model.visual.output_tokens = True
    with torch.no_grad():
        _, tokens = model.visual(standardised(pictures(backbone)))
    found = backbone.encode_tokens(pictures(backbone))
    assert found.shape == (4, 4, 32)
    torch.testing.assert_close(found, tokens, rtol=1e-5, atol=1e-5)
    require_maps(backbone, pictures(backbone))


def test_patches_of_a_convolutional_trunk_are_its_feature_map_row_by_row(
    saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = upstream(saved["timm"], monkeypatch)
    backbone = load(saved["timm"])
    with torch.no_grad():
        grid = model.visual.trunk.forward_features(standardised(pictures(backbone)))
    found = backbone.encode_tokens(pictures(backbone))
    side = grid.shape[-1]
    assert side > 1
    torch.testing.assert_close(found[:, side], grid[:, :, 1, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[:, 1], grid[:, :, 0, 1], rtol=1e-5, atol=1e-5)
    # Its head is a mean over the patches and a projection.
    with torch.no_grad():
        pooled = model.visual.head(found.mean(dim=1))
    torch.testing.assert_close(pooled, backbone.encode_images(pictures(backbone)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "prefix", "shape"),
    [
        ("test_vit", 1, (100, 64)),
        ("test_vit2", None, None),
        ("test_mambaout", None, (25, 64)),
    ],
)
def test_class_and_register_tokens_are_no_patches(
    copied: Callable[..., Path], name: str, prefix: int | None, shape: tuple[int, int] | None
) -> None:
    side = timm.get_pretrained_cfg(name).input_size[-1]
    vision = {"timm_model_name": name, "timm_pool": "avg", "image_size": side}
    backbone = load(built(copied("timm"), {"vision_cfg": vision}))
    trunk = timm.create_model(name, num_classes=0).eval()
    weights = {k.removeprefix("trunk."): v for k, v in backbone._model.visual.state_dict().items()}
    trunk.load_state_dict({k: v for k, v in weights.items() if not k.startswith("head.")}, strict=False)
    with torch.no_grad():
        everything = trunk.forward_features(standardised(pictures(backbone, 1)))
    number = trunk.num_prefix_tokens if everything.ndim == 3 else 0
    assert prefix in (None, number)
    found = backbone.encode_tokens(pictures(backbone, 1))
    if everything.ndim == 3:
        everything = everything[:, number:]
    torch.testing.assert_close(found, everything.reshape(1, -1, everything.shape[-1]), rtol=1e-4, atol=1e-4)
    assert shape in (None, found.shape[1:])
    require_maps(backbone, pictures(backbone, 1))
    assert backbone.card.token_dim == found.shape[2]


def test_patches_of_open_clip_s_resnet(copied: Callable[..., Path]) -> None:
    vision = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "image_size": 64}
    backbone = load(built(copied("plain"), {"vision_cfg": vision}))
    with torch.no_grad():
        visual = backbone._model.visual
        stem = visual.stem(standardised(pictures(backbone)))
        grid = visual.layer4(visual.layer3(visual.layer2(visual.layer1(stem))))
    found = backbone.encode_tokens(pictures(backbone))
    assert backbone.card.token_dim == found.shape[2] == 256
    torch.testing.assert_close(found, grid.reshape(4, 256, -1).transpose(1, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_s_patches_do_not_depend_on_its_batch_mates(saved: dict[str, Path], kind: str) -> None:
    backbone = load(saved[kind])
    pixels = pictures(backbone)
    others = torch.cat([pixels[:1], 255 - pixels[1:]])
    assert torch.equal(backbone.encode_tokens(pixels)[0], backbone.encode_tokens(others)[0])
    assert not torch.equal(backbone.encode_tokens(pixels)[1], backbone.encode_tokens(others)[1])


def test_words_are_those_of_open_clip_s_own_tower(
    saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = upstream(saved["plain"], monkeypatch)
    ids = tokenizer(TEXTS)
    with torch.no_grad():
        x = model.token_embedding(ids) + model.positional_embedding
        expected = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))
    words, mask = load(saved["plain"]).encode_words(TEXTS)
    assert words.shape == (4, 12, 32)
    assert mask.sum(dim=1).tolist() == (ids != 0).sum(dim=1).tolist()
    torch.testing.assert_close(words[mask], expected[mask], rtol=1e-5, atol=1e-5)
    assert (words[~mask] == 0).all()


def test_words_are_those_of_the_transformers_library(
    saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = upstream(saved["bert"], monkeypatch)
    ids = tokenizer(TEXTS)
    with torch.no_grad():
        out = model.text.transformer(input_ids=ids, attention_mask=(ids != 0).long())
    words, mask = load(saved["bert"]).encode_words(TEXTS)
    assert torch.equal(mask, (ids != 0)[:, : mask.shape[1]])
    expected = out.last_hidden_state[:, : mask.shape[1]]
    torch.testing.assert_close(words[mask], expected[mask], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_s_words_do_not_depend_on_its_neighbours(saved: dict[str, Path], kind: str) -> None:
    backbone = load(saved[kind])
    together, mask = backbone.encode_words(TEXTS)
    for row, text in enumerate(TEXTS):
        alone, used = backbone.encode_words([text])
        assert used.all()
        assert torch.equal(alone[0], together[row, : used.shape[1]])
        assert not mask[row, used.shape[1] :].any()
    words, mask = backbone.encode_words([])
    assert (words.shape, mask.shape) == ((0, 0, 32), (0, 0))


POOLING: dict[str, dict[str, Any]] = {
    "causal, at the end of the text": {},
    "causal, at the largest token": {"pool_type": "argmax", "proj_bias": True},
    "both ways, at the last position": {"pool_type": "last", "no_causal_mask": True},
    "both ways, at the first position": {"pool_type": "first", "no_causal_mask": True},
}


@pytest.mark.parametrize("case", [*KINDS, *POOLING])
def test_the_text_path_gives_what_encode_texts_gives(
    saved: dict[str, Path], copied: Callable[..., Path], case: str
) -> None:
    folder = saved[case] if case in saved else built(copied("plain"), {"text_cfg": POOLING[case]})
    backbone = load(folder)
    # Encoding first: what inference has touched must still take part in gradients.
    expected = backbone.encode_texts(TEXTS)
    path = backbone.text_path()
    words, mask = path.embed(TEXTS)
    assert words.shape == (*mask.shape, path.width)
    words.requires_grad_(True)
    vectors = path.encode(words, mask)
    torch.testing.assert_close(vectors, expected, rtol=1e-5, atol=1e-5)
    vectors.square().sum().backward()
    assert words.grad is not None
    reached = words.grad.abs().sum(dim=2) > 0
    assert reached[mask].any()
    assert not reached[~mask].any()
    assert not any(p.requires_grad for p in backbone._model.parameters())


@pytest.mark.parametrize("case", [*KINDS, "both ways, at the last position"])
def test_learnt_words_after_the_first_change_the_vector_and_can_be_trained(
    saved: dict[str, Path], copied: Callable[..., Path], case: str
) -> None:
    backbone = load(saved[case] if case in saved else built(copied("plain"), {"text_cfg": POOLING[case]}))
    path = backbone.text_path()
    texts = ["no edema", "effusion"]
    words, mask = path.embed(texts)
    learnt = nn.Parameter(torch.randn(3, path.width, generator=torch.Generator().manual_seed(0)))

    def vectors() -> torch.Tensor:
        longer = torch.cat([words[:, :1], learnt.expand(2, -1, -1), words[:, 1:]], dim=1)
        used = torch.cat([mask[:, :1], torch.ones(2, 3, dtype=torch.bool), mask[:, 1:]], dim=1)
        return path.encode(longer, used)

    before = vectors().detach()
    assert (before - backbone.encode_texts(texts)).abs().max() > 1e-3
    goal = torch.ones(2, 24)
    optimiser = torch.optim.Adam([learnt], lr=0.3)
    for _ in range(20):
        loss = 1 - torch.cosine_similarity(vectors(), goal).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (
        torch.cosine_similarity(vectors(), goal).mean() > torch.cosine_similarity(before, goal).mean() + 1e-3
    )


def test_inserted_words_are_read_as_if_they_were_written(saved: dict[str, Path]) -> None:
    for kind in ("plain", "bert"):
        path = load(saved[kind]).text_path()
        whole, mask = path.embed(["no edema ."])
        short, used = path.embed(["edema ."])
        grown = torch.cat([short[:, :1], whole[:, 1:2], short[:, 1:]], dim=1)
        torch.testing.assert_close(grown, whole)
        used = torch.cat([used[:, :1], used], dim=1)
        torch.testing.assert_close(path.encode(grown, used), path.encode(whole, mask))


def test_too_many_words_are_refused_in_one_line(saved: dict[str, Path]) -> None:
    path = load(saved["bert"]).text_path()
    words, mask = path.embed([TEXTS[2]])
    with pytest.raises(UserError, match="has 14 words with those to learn, the text tower takes 12"):
        path.encode(torch.cat([words, words[:, :2]], dim=1), torch.cat([mask, mask[:, :2]], dim=1))


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_tower_starts_as_the_frozen_one_and_leaves_it_alone(
    saved: dict[str, Path], kind: str
) -> None:
    backbone = load(saved[kind])
    pixels = pictures(backbone)
    before = backbone.encode_images(pixels)
    tower = backbone.image_tower()
    torch.testing.assert_close(tower(pixels).detach(), before, rtol=1e-6, atol=1e-6)
    optimiser = torch.optim.SGD(tower.parameters(), lr=0.1)
    tower.train()
    for _ in range(2):
        loss = tower(pixels).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    tower.eval()
    assert (tower(pixels).detach() - before).abs().max() > 1e-3
    assert torch.equal(backbone.encode_images(pixels), before)
    other = backbone.image_tower()
    torch.testing.assert_close(other(pixels).detach(), before, rtol=1e-6, atol=1e-6)
    other.load_state_dict(tower.state_dict())
    assert torch.equal(other(pixels), tower(pixels))


@pytest.mark.parametrize("kind", KINDS)
def test_capabilities_and_widths_are_told_without_weights(copied: Callable[..., Path], kind: str) -> None:
    folder = copied(kind)
    true = load(folder)
    shapes = true.encode_tokens(pictures(true, 1)).shape[2], true.encode_words(["edema"])[0].shape[2]
    (folder / "open_clip_model.safetensors").write_bytes(b"")
    backbone = load(folder)
    assert backbone.capabilities >= INSIDE
    assert (backbone.card.token_dim, backbone.card.text_token_dim) == shapes


def test_coca_declares_neither_tokens_nor_gradients(copied: Callable[..., Path]) -> None:
    folder = copied("plain")
    path = folder / "open_clip_config.json"
    about = json.loads(path.read_text())
    about["model_cfg"]["multimodal_cfg"] = {"width": 32}
    path.write_text(json.dumps(about))
    backbone = load(folder)
    assert backbone.capabilities == {"features", "texts", "joint", "pixels"}
    assert (backbone.card.token_dim, backbone.card.text_token_dim) == (None, None)
    for use in (
        lambda: backbone.encode_tokens(torch.zeros(1, 32, 32, dtype=torch.uint8)),
        lambda: backbone.encode_words(["edema"]),
        backbone.text_path,
        backbone.image_tower,
    ):
        with pytest.raises(NotImplementedError):
            use()


def test_an_image_tower_that_timm_does_not_know(copied: Callable[..., Path]) -> None:
    folder = copied("timm")
    path = folder / "open_clip_config.json"
    path.write_text(path.read_text().replace("test_resnet", "test_pyramid"))
    with pytest.raises(UserError, match=r"open_clip_config\.json: timm cannot build .* 'test_pyramid'"):
        print(load(folder).card)


def test_phantom_clip_states_its_widths_truly() -> None:
    backbone = load_backbone("phantom-clip", device="cpu")
    assert backbone.capabilities >= INSIDE
    tokens = backbone.encode_tokens(torch.zeros(1, 128, 128, dtype=torch.uint8))
    words, _ = backbone.encode_words(["No edema."])
    assert (backbone.card.token_dim, backbone.card.text_token_dim) == (tokens.shape[2], words.shape[2])
    path = backbone.text_path()
    torch.testing.assert_close(
        path.encode(*path.embed(["No edema."])), backbone.encode_texts(["No edema."]), rtol=1e-5, atol=1e-5
    )


def test_biomedclip_states_its_widths_without_files_or_torch() -> None:
    code = (
        "import sys\n"
        "from retune.backbones.load import load_backbone\n"
        "for name in ('biomedclip', 'phantom-clip'):\n"
        "    b = load_backbone(name)\n"
        "    print(sorted(b.capabilities), b.card.token_dim, b.card.text_token_dim)\n"
        "assert not {'torch', 'timm', 'open_clip'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    biomedclip, phantom = done.stdout.splitlines()
    assert biomedclip.endswith("768 768")
    assert phantom.endswith("320 128")
    assert all(f"'{ability}'" in line for ability in INSIDE for line in (biomedclip, phantom))
    # The architecture that its configuration names.
    with torch.device("meta"):
        trunk = timm.create_model("vit_base_patch16_224", num_classes=0)
    assert trunk.num_features == 768
