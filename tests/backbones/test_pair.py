"""Pairs of towers: features are the upstream libraries' own, and every capability holds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchxrayvision as xrv
import transformers
from made_towers import PROCESSOR, TEXTS, VISION, Towers, pair, pictures, pixels_of, require_maps

from retune.backbones.models.dinov2_biomedbert import Dinov2BiomedBert
from retune.backbones.models.rad_dino_cxr_bert import RadDinoCxrBert
from retune.backbones.pair.model import Pair, split
from retune.errors import UserError


@pytest.mark.parametrize("kind", VISION)
def test_images_are_those_of_transformers(towers: Towers, kind: str) -> None:
    name, _, _, ahead, first = VISION[kind]
    model = getattr(transformers, name.replace("CLIPModel", "CLIPVisionModel")).from_pretrained(towers(kind))
    processor = transformers.AutoImageProcessor.from_pretrained(towers(kind), backend="pil")
    inputs = processor([picture.convert("L").convert("RGB") for picture in pictures()], return_tensors="pt")
    with torch.inference_mode():
        out = model.eval()(**inputs)
    expected = out.last_hidden_state[:, 0] if first else out.pooler_output.flatten(1)
    patches = out.last_hidden_state
    patches = patches.flatten(2).mT if patches.ndim == 4 else patches[:, ahead:]

    backbone = pair(towers, kind)
    pixels = pixels_of(backbone)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (3, 56, 56)
    torch.testing.assert_close(backbone.encode_images(pixels), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(backbone.encode_tokens(pixels), patches, rtol=1e-4, atol=1e-5)
    require_maps(backbone, pixels)
    card = backbone.card
    assert (card.image_size, card.dim, card.token_dim) == (56, expected.shape[1], patches.shape[2])
    text = transformers.BertModel.from_pretrained(towers("bert"))
    # ViT's pooler is not used.
    used = [p.numel() for n, p in model.named_parameters() if kind != "vit" or "pooler" not in n]
    assert backbone.parameters == sum(used) + sum(p.numel() for p in text.parameters())


@pytest.mark.parametrize(
    "name", ["test_vit", "test_resnet", "test_efficientnet", "swin_tiny_patch4_window7_224"]
)
def test_images_are_those_of_timm(towers: Towers, name: str) -> None:
    model = timm.create_model(f"local-dir:{towers(name)}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    images = torch.stack([transform(picture.convert("L").convert("RGB")) for picture in pictures()])
    with torch.inference_mode():
        expected, maps = model(images), model.forward_features(images)
    maps = maps.permute(0, 3, 1, 2) if "swin" in name else maps
    patches = maps.flatten(2).mT if maps.ndim == 4 else maps[:, 1:]

    backbone = pair(towers, name)
    pixels = pixels_of(backbone)
    assert pixels.shape == (3, *images.shape[2:])
    torch.testing.assert_close(backbone.encode_images(pixels), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(backbone.encode_tokens(pixels), patches, rtol=1e-4, atol=1e-5)
    require_maps(backbone, pixels)
    assert (backbone.card.dim, backbone.card.token_dim) == (expected.shape[1], patches.shape[2])
    assert backbone._vision.shapes[2] == sum(p.numel() for p in model.parameters())


def save_xrv(name: str, home: Path) -> tuple[Any, Path]:
    """Random weights, published and loaded as torchxrayvision does; and its own saved state_dict."""
    torch.manual_seed(5)
    urls = xrv.autoencoders.model_urls if "ae" in name else xrv.models.model_urls
    published = home / Path(urls[name.removeprefix("resnetae-")]["weights_url"]).name
    published.parent.mkdir(parents=True, exist_ok=True)
    model: Any
    if name.startswith("densenet"):
        torch.save(xrv.models.DenseNet(), published, _use_new_zipfile_serialization=False)
        model = xrv.models.DenseNet(weights=name, cache_dir=home)
    elif "ae" in name:
        torch.save(xrv.autoencoders.ResNetAE().state_dict(), published)
        return xrv.autoencoders.ResNetAE("101-elastic", cache_dir=home), published
    else:
        from torchvision.models import resnet50

        bare = resnet50(num_classes=18)
        bare.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        torch.save(bare.state_dict(), published)
        model = xrv.models.ResNet(name, cache_dir=home)
    torch.save(model.state_dict(), home / f"{name}.pt")
    return model, home / f"{name}.pt"


@pytest.mark.parametrize(
    ("name", "size", "dim"),
    [
        ("densenet121-res224-all", 224, 1024),
        ("resnet50-res512-all", 512, 2048),
        ("resnetae-101-elastic", 224, 512),
    ],
)
def test_images_are_those_of_torchxrayvision(
    towers: Towers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int, dim: int
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    model, saved = save_xrv(name, tmp_path / ".torchxrayvision" / "models_data")
    backbone = Pair(f"pair:xrv:{name}@{saved}+local-dir:{towers('bert')}")
    backbone.device = "cpu"
    picture = pictures()[0]
    pixels = backbone.preprocess(picture)[None]
    steps = [xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(size)]
    image = xrv.datasets.normalize(np.asarray(picture), 255)[None]
    for step in steps:
        image = step(image)
    exact = torch.from_numpy(image)
    # Half a grey level: the only difference between uint8 pictures and the library's own.
    grey = (pixels.float() / 255 * 2 - 1) * 1024
    assert (grey - exact).abs().max() <= 1024 / 255 + 1e-3
    with torch.inference_mode():
        # Its DenseNet's "features" are maps.
        expected = (model.features2 if name.startswith("densenet") else model.features)(grey[None])
        if "ae" in name:
            expected = expected.mean((2, 3))
    features = backbone.encode_images(pixels)
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)
    assert (backbone.card.image_size, backbone.card.dim, backbone.card.token_dim) == (size, dim, dim)
    torch.testing.assert_close(backbone.encode_tokens(pixels).mean(1), expected, rtol=1e-3, atol=1e-4)
    require_maps(backbone, pixels)
    assert {"nih", "padchest"} <= set(backbone.card.pretraining_data)

    plain = Pair(f"pair:xrv:{name}+local-dir:{towers('bert')}")
    if name.startswith("densenet"):
        with pytest.raises(UserError, match=r"pickled Python object.*state_dict.*@xrv\.pt"):
            plain.encode_images(pixels)
        published = Pair(f"pair:xrv:{name}@{next(saved.parent.glob('nih-*.pt'))}+local-dir:{towers('bert')}")
        with pytest.raises(UserError, match="is no state_dict of densenet121"):
            published.encode_images(pixels)
    elif "ae" in name:
        # Found where torchxrayvision keeps what it downloads.
        assert torch.equal(plain.encode_images(pixels), features)


def upstream_texts(folder: Path, kind: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Vectors and word states, each text encoded alone and without padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    name = {"gpt2": "GPT2Model", "masked": "BertForMaskedLM", "roberta": "RobertaModel"}.get(
        kind, "BertModel"
    )
    model = getattr(transformers, name).from_pretrained(folder).eval()
    model = model.bert if kind == "masked" else model
    vectors, words = [], []
    for text in TEXTS:
        # GPT-2's tokenizer makes nothing of nothing; its end token stands in.
        ids = tokenizer(
            text or {"gpt2": "<|endoftext|>"}.get(kind, ""),
            truncation=True,
            max_length=80,
            return_tensors="pt",
        )
        with torch.inference_mode():
            out = model(**ids)
        states = out.last_hidden_state[0]
        words.append(states)
        vectors.append(
            {"gpt2": states[-1], "masked": states[0], "sentences": states.mean(0)}[kind]
            if kind in ("gpt2", "masked", "sentences")
            else out.pooler_output[0]
        )
    return torch.stack(vectors), words


@pytest.mark.parametrize("kind", ["bert", "masked", "roberta", "gpt2", "sentences"])
def test_texts_are_those_of_transformers(towers: Towers, kind: str) -> None:
    expected, words = upstream_texts(towers(kind), kind)
    backbone = pair(towers, text=kind)
    texts = backbone.encode_texts(TEXTS)
    torch.testing.assert_close(texts, expected, rtol=1e-4, atol=1e-5)
    assert (backbone.card.text_dim, backbone.card.text_token_dim) == (32, 32)
    states, mask = backbone.encode_words(TEXTS)
    assert mask.sum(1).tolist() == [len(row) for row in words]
    for row, real, given in zip(words, mask, states, strict=True):
        torch.testing.assert_close(given[real], row, rtol=1e-4, atol=1e-5)
        assert not given[~real].any()


@pytest.mark.parametrize("kind", ["bert", "masked", "roberta", "gpt2", "sentences"])
def test_a_text_does_not_depend_on_its_neighbours(towers: Towers, kind: str) -> None:
    backbone = pair(towers, text=kind)
    # Some fill their padded length to the last word, some do not.
    many = TEXTS * 3 + ["no " * 30, "h" * 32, "no " * 78, "h" * 64] * 5
    together = backbone.encode_texts(many)
    alone = {text: backbone.encode_texts([text])[0] for text in set(many)}
    assert torch.equal(together, torch.stack([alone[text] for text in many]))
    assert torch.equal(backbone.encode_texts(many[::-1]), together.flip(0))
    assert backbone.encode_texts([]).shape == (0, 32)


@pytest.mark.parametrize("kind", ["bert", "masked", "roberta", "gpt2", "sentences"])
def test_the_text_path_agrees_and_has_gradients(towers: Towers, kind: str) -> None:
    backbone = pair(towers, text=kind)
    path = backbone.text_path()
    words, mask = path.embed(TEXTS)
    assert words.shape == (*mask.shape, path.width)
    assert path.embed([])[0].shape == (0, 0, path.width)
    assert not (mask[:, 1:] & ~mask[:, :-1]).any()
    torch.testing.assert_close(path.encode(words, mask), backbone.encode_texts(TEXTS), rtol=1e-4, atol=1e-5)
    learnt = words.clone().requires_grad_()
    path.encode(learnt, mask).square().sum().backward()
    assert learnt.grad is not None
    assert (learnt.grad.abs().sum(-1) > 0)[mask][:1].all()
    assert not learnt.grad[~mask].any()
    assert learnt.grad[mask].isfinite().all()


def test_more_words_than_the_text_tower_takes(towers: Towers) -> None:
    path = pair(towers).text_path()
    words, mask = torch.zeros(1, 80, path.width), torch.ones(1, 80, dtype=torch.bool)
    assert path.encode(words, mask).shape == (1, 32)
    with pytest.raises(UserError, match="81 words with those to learn, the text tower takes 80"):
        path.encode(torch.zeros(1, 81, path.width), torch.ones(1, 81, dtype=torch.bool))


@pytest.mark.parametrize("kind", ["registers", "resnet", "test_resnet"])
def test_the_image_tower_is_a_trainable_copy(towers: Towers, kind: str) -> None:
    backbone = pair(towers, kind)
    pixels = pixels_of(backbone)
    before = backbone.encode_images(pixels)
    tower = backbone.image_tower()
    torch.testing.assert_close(tower(pixels), before)
    assert all(p.requires_grad for p in tower.parameters())
    start = {name: p.detach().clone() for name, p in tower.named_parameters()}
    optimizer = torch.optim.SGD(tower.train().parameters(), lr=0.1)
    tower(pixels).square().mean().backward()
    optimizer.step()
    assert any(not torch.equal(p, start[name]) for name, p in tower.named_parameters())
    assert not torch.allclose(tower.eval()(pixels), before)
    assert torch.equal(backbone.encode_images(pixels), before)


def test_half_precision_changes_products_only(towers: Towers) -> None:
    exact, rough = pair(towers), pair(towers)
    rough.precision = "bf16"
    pixels = pixels_of(exact)
    for a, b in (
        (exact.encode_images(pixels), rough.encode_images(pixels)),
        (exact.encode_texts(TEXTS), rough.encode_texts(TEXTS)),
    ):
        assert b.dtype == torch.float32
        assert not torch.equal(a, b)
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.1)


def test_what_is_declared(towers: Towers) -> None:
    backbone = pair(towers)
    assert "joint" not in backbone.capabilities
    assert {"tokens", "text-gradients", "trainable-tower", "pixels"} <= backbone.capabilities
    assert backbone.card.pretraining_data == ("unknown",)
    assert backbone.card.licence == "unknown"
    for named in (RadDinoCxrBert(), Dinov2BiomedBert()):
        assert "joint" not in named.capabilities
        assert (named.card.dim, named.card.text_dim) == (768, 768)
    assert {"mimic-cxr", "chexpert", "nih", "padchest", "brax"} <= set(RadDinoCxrBert().card.pretraining_data)
    assert "mimic-cxr" not in Dinov2BiomedBert().card.pretraining_data
    assert RadDinoCxrBert().card.image_size == 518


def test_the_fingerprint_follows_both_towers_not_their_places(towers: Towers, tmp_path: Path) -> None:
    first = pair(towers).fingerprint
    moved = Pair(
        f"pair:local-dir:{shutil.copytree(towers('dinov2'), tmp_path / 'v')}"
        f"+local-dir:{shutil.copytree(towers('bert'), tmp_path / 't+local-dir:')}"
    )
    assert moved.fingerprint == first
    others = [
        pair(towers, "registers"),
        pair(towers, text="masked"),
        pair(towers, text="sentences"),
        pair(towers, "test_vit"),
        pair(towers, "test_resnet"),
    ]
    assert len({first, *(other.fingerprint for other in others)}) == 6
    (tmp_path / "v" / "preprocessor_config.json").write_text(
        json.dumps({**PROCESSOR, "image_mean": [0.4, 0.5, 0.61]})
    )
    assert Pair(moved.source).fingerprint != first


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("pair:hf-hub:a/b+hf-hub:c/d", ("hf-hub:a/b", "hf-hub:c/d")),
        ("pair:local-dir:/a+b/c+local-dir:/d+e", ("local-dir:/a+b/c", "local-dir:/d+e")),
        ("pair:timm:local-dir:/a+hf-hub:c/d", ("timm:local-dir:/a", "hf-hub:c/d")),
        ("pair:xrv:all@/x+y.pt+hf-hub:c/d", ("xrv:all@/x+y.pt", "hf-hub:c/d")),
    ],
)
def test_a_name_is_parted_at_the_second_scheme(source: str, parts: tuple[str, str]) -> None:
    assert split(source) == parts


@pytest.mark.parametrize(
    "source", ["pair:", "pair:hf-hub:a/b", "pair:hf-hub:a/b+timm:c", "pair:foo:a+hf-hub:c/d", "pair:a+b"]
)
def test_a_name_without_two_towers_is_refused(source: str) -> None:
    with pytest.raises(UserError, match=r"does not name two towers; write pair:VISION\+TEXT"):
        Pair(source)
