"""Features are those of transformers; prompts and towers can be learnt; mistakes are told in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from made_towers import require_maps
from PIL import Image

from retune.backbones.hf.model import TransformersDual
from retune.backbones.load import load_backbone
from retune.errors import MissingFiles, UserError

KINDS = ("clip", "siglip", "chinese_clip")
TEXTS = ["No pleural effusion", "Edema", "the heart is large " * 9, "effusion", "no edema"]


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (50, 70), dtype=np.uint8))
    return [grey, grey.resize((40, 90)), grey.resize((32, 32)), grey.resize((20, 24))]


def dual_of(folder: Path) -> TransformersDual:
    backbone = load_backbone(f"local-dir:{folder}", device="cpu")
    assert isinstance(backbone, TransformersDual)
    return backbone


def pixels_of(backbone: TransformersDual) -> torch.Tensor:
    return torch.stack([backbone.preprocess(picture) for picture in pictures()])


def set_json(path: Path, *keys: str, value: Any) -> None:
    content = json.loads(path.read_text())
    section = content
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    path.write_text(json.dumps(content))


def upstream(folder: Path) -> tuple[Any, Any]:
    """The model and the processor as transformers' documentation loads them."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    return model, transformers.AutoProcessor.from_pretrained(folder)


def upstream_pixels(folder: Path, **settings: Any) -> torch.Tensor:
    processor = transformers.AutoImageProcessor.from_pretrained(folder, **settings)
    # Radiographs reach a backbone as 8-bit grey.
    pixels: torch.Tensor = processor([p.convert("RGB") for p in pictures()], return_tensors="pt").pixel_values
    return pixels


def bare(out: Any) -> torch.Tensor:
    features: torch.Tensor = out if isinstance(out, torch.Tensor) else out.pooler_output
    return features


def upstream_texts(folder: Path, kind: str) -> torch.Tensor:
    model, processor = upstream(folder)
    padding: Any = "max_length" if kind == "siglip" else True
    length = model.config.text_config.max_position_embeddings
    tokens = processor(text=TEXTS, padding=padding, truncation=True, max_length=length, return_tensors="pt")
    with torch.inference_mode():
        return bare(model.get_text_features(**tokens))


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_transformers(duals: dict[str, Path], kind: str) -> None:
    folder, backbone = duals[kind], dual_of(duals[kind])
    model, processor = upstream(folder)
    pixels = pixels_of(backbone)
    theirs = upstream_pixels(folder, backend="pil")
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (4, 32, 32))
    torch.testing.assert_close(backbone._normalised(pixels), theirs, rtol=1e-6, atol=1e-6)
    # The backend that transformers prefers rounds its resizing a little otherwise.
    preferred = processor(images=[p.convert("RGB") for p in pictures()], return_tensors="pt").pixel_values
    assert (backbone._normalised(pixels) - preferred).abs().max() < 3 / 255 / 0.25
    with torch.inference_mode():
        images = bare(model.get_image_features(pixel_values=theirs))
        patches = model.vision_model(pixel_values=theirs).last_hidden_state[:, -16:]
    torch.testing.assert_close(backbone.encode_images(pixels), images, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(backbone.encode_tokens(pixels), patches, rtol=1e-5, atol=1e-5)
    require_maps(backbone, pixels)
    torch.testing.assert_close(
        backbone.encode_texts(TEXTS), upstream_texts(folder, kind), rtol=1e-5, atol=1e-5
    )
    assert backbone.logit_scale == pytest.approx(model.logit_scale.exp().item())
    assert backbone.parameters == sum(p.numel() for p in model.parameters())
    assert backbone.card.dim == images.shape[1] == backbone.encode_texts(TEXTS).shape[1]
    assert backbone.card.token_dim == patches.shape[2]


def test_old_clip_models_take_the_largest_number_for_the_end(dual: Callable[..., Path]) -> None:
    folder = dual("clip")
    set_json(folder / "config.json", "text_config", "eos_token_id", value=2)
    backbone = dual_of(folder)
    features = backbone.encode_texts(TEXTS)
    torch.testing.assert_close(features, upstream_texts(folder, "clip"), rtol=1e-5, atol=1e-5)
    words, mask = backbone.text_path().embed(TEXTS)
    torch.testing.assert_close(backbone.text_path().encode(words, mask), features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_does_not_depend_on_its_neighbours(duals: dict[str, Path], kind: str) -> None:
    backbone = dual_of(duals[kind])
    many = [*TEXTS, *TEXTS[::-1], *TEXTS[2:], *TEXTS]
    together = backbone.encode_texts(many)
    alone = {text: backbone.encode_texts([text])[0] for text in TEXTS}
    assert torch.equal(together, torch.stack([alone[text] for text in many]))
    assert torch.equal(backbone.encode_texts(many[::-1]), together.flip(0))
    assert backbone.encode_texts([]).shape == (0, backbone.card.dim)
    assert not together.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_those_of_transformers(duals: dict[str, Path], kind: str) -> None:
    backbone = dual_of(duals[kind])
    model, processor = upstream(duals[kind])
    words, mask = backbone.encode_words(TEXTS * 4)
    assert words.shape[2] == backbone.card.text_token_dim
    length = model.config.text_config.max_position_embeddings
    for row in range(len(TEXTS)):
        settings: Any = {"padding": "max_length"} if kind == "siglip" else {}
        tokens = processor(
            text=TEXTS[row], truncation=True, max_length=length, return_tensors="pt", **settings
        )
        count = int(mask[row].sum())
        with torch.inference_mode():
            theirs = model.text_model(**tokens).last_hidden_state[0, :count]
        assert count == len(processor.tokenizer(TEXTS[row], truncation=True, max_length=length).input_ids)
        torch.testing.assert_close(words[row, :count], theirs, rtol=1e-4, atol=1e-5)
        assert not words[row, count:].any()
    torch.testing.assert_close(words[-5:], words[:5], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [*KINDS, "padded on the left"])
def test_prompts_can_be_learnt(dual: Callable[..., Path], kind: str) -> None:
    torch.manual_seed(0)
    folder = dual("siglip" if " " in kind else kind)
    if " " in kind:
        set_json(folder / "tokenizer_config.json", "padding_side", value="left")
    backbone = dual_of(folder)
    path = backbone.text_path()
    texts = [TEXTS[0], TEXTS[1], TEXTS[4]]
    words, mask = path.embed(texts)
    assert words.shape == (*mask.shape, path.width)
    torch.testing.assert_close(path.encode(words, mask), backbone.encode_texts(texts), rtol=1e-4, atol=1e-5)
    spoilt = torch.where(mask[..., None], words, torch.randn_like(words))
    torch.testing.assert_close(path.encode(spoilt, mask), path.encode(words, mask))
    given, there = words[1:2, :3], mask[1:2, :3]
    learnt = given.clone().requires_grad_()
    towards, step = torch.randn(backbone.card.dim), torch.randn_like(given) * 0.01
    (path.encode(learnt, there) @ towards).sum().backward()
    assert learnt.grad is not None
    # Words move the features as their gradient says.
    moved = (path.encode(given + step, there) - path.encode(given - step, there)) @ towards / 2
    torch.testing.assert_close((learnt.grad * step).sum(), moved.sum(), rtol=0.02, atol=1e-4)
    assert moved.abs() > 1e-3
    assert all(p.grad is None for p in backbone._model.parameters())
    with pytest.raises(UserError, match="17 words"):
        path.encode(torch.zeros(1, 17, path.width), torch.ones(1, 17, dtype=torch.bool))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tower_can_be_trained_apart(duals: dict[str, Path], kind: str) -> None:
    backbone = dual_of(duals[kind])
    pixels = pixels_of(backbone)
    before = backbone.encode_images(pixels)
    tower = backbone.image_tower()
    torch.testing.assert_close(tower(pixels), before, rtol=1e-5, atol=1e-5)
    (tower(pixels) * torch.randn(4, backbone.card.dim)).sum().backward()
    assert all(p.grad is not None for p in tower.parameters())
    torch.optim.SGD(tower.parameters(), lr=0.1).step()
    assert (tower(pixels) - before).abs().max() > 1e-3
    assert torch.equal(backbone.encode_images(pixels), before)


def test_pictures_are_prepared_by_several_threads_at_once(duals: dict[str, Path]) -> None:
    backbone = dual_of(duals["clip"])
    many = pictures() * 8
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(backbone.preprocess, many))
    alone = pixels_of(dual_of(duals["clip"]))
    assert all(torch.equal(found[k], alone[k % 4]) for k in range(len(many)))
    assert "_model" not in vars(backbone)


def test_half_precision_stays_near(duals: dict[str, Path]) -> None:
    fp32, bf16 = dual_of(duals["siglip"]), dual_of(duals["siglip"])
    bf16.precision = "bf16"
    pixels = pixels_of(fp32)
    for method, given in (("encode_images", pixels), ("encode_texts", TEXTS), ("encode_tokens", pixels)):
        exact, near = getattr(fp32, method)(given), getattr(bf16, method)(given)
        assert near.dtype == torch.float32
        assert 1e-5 < (near - exact).abs().max() < 0.2


def test_the_card_reads_the_licence(dual: Callable[..., Path]) -> None:
    folder = dual("clip")
    for text, licence in (
        ("---\nlicense: mit\ntags:\n- x\n---\n# Model\nlicense: no\n", "mit"),
        ("---\nlicense: other\nlicense_name: 'our-terms'\n---\n", "our-terms"),
        ("# Model\nlicense: mit\n", "unknown"),
    ):
        (folder / "README.md").write_text(text)
        card = dual_of(folder).card
        assert (card.licence, card.pretraining_data, card.image_size) == (licence, ("unknown",), 32)


def test_the_fingerprint_follows_content_not_place(dual: Callable[..., Path]) -> None:
    here, there = dual("clip", "here"), dual("clip", "there")
    set_json(there / "config.json", "_name_or_path", value="/somewhere/else")
    set_json(there / "config.json", "transformers_version", value="4.0")
    set_json(there / "config.json", "torch_dtype", value="float16")
    (there / "README.md").write_text("notes")
    assert dual_of(here).fingerprint == dual_of(there).fingerprint


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: flip(folder / "model.safetensors"),
        lambda folder: set_json(folder / "preprocessor_config.json", "image_mean", value=[0.4, 0.4, 0.4]),
        lambda folder: set_json(folder / "config.json", "text_config", "hidden_act", value="relu"),
        lambda folder: set_json(folder / "tokenizer.json", "normalizer", value=None),
        lambda folder: set_json(folder / "tokenizer_config.json", "padding_side", value="left"),
    ],
    ids=["weights", "preprocessing", "architecture", "tokenizer", "tokenizer settings"],
)
def test_the_fingerprint_follows_every_part(dual: Callable[..., Path], change: Any) -> None:
    folder = dual("clip")
    before = dual_of(folder).fingerprint
    change(folder)
    assert dual_of(folder).fingerprint != before


def sharded(folder: Path) -> None:
    model = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="100KB")


def pickled(folder: Path) -> None:
    state = transformers.AutoModel.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")


@pytest.mark.parametrize("store", [sharded, pickled])
def test_weights_in_other_containers_give_the_same_features(dual: Callable[..., Path], store: Any) -> None:
    plain, other = dual_of(dual("clip", "plain")), dual("clip", "other")
    store(other)
    backbone = dual_of(other)
    assert len([part for part in backbone.files.parts if "model" in part]) == (1 if store is pickled else 3)
    assert backbone.parameters == plain.parameters
    assert backbone.fingerprint != plain.fingerprint
    assert torch.equal(backbone.encode_texts(TEXTS), plain.encode_texts(TEXTS))


def test_missing_numbers_in_the_weights_show_in_the_features(dual: Callable[..., Path]) -> None:
    folder = dual("clip")
    rewrite(folder, lambda state: state["visual_projection.weight"].fill_(float("nan")))
    backbone = dual_of(folder)
    assert backbone.encode_images(pixels_of(backbone)).isnan().all()


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


class Evil:
    """A pickle that runs code when it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil-ran"),)


def evil(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"x": Evil()}, folder / "pytorch_model.bin")


def lose_a_shard(folder: Path) -> None:
    sharded(folder)
    next(folder.glob("model-00002*")).unlink()


def point_outside(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../a.safetensors"}})
    )


def remote_code(folder: Path) -> None:
    (folder / "evil.py").write_text("from pathlib import Path\nPath('evil-ran').touch()\nclass Evil: pass\n")
    set_json(folder / "config.json", "auto_map", value={"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"})


def remote_tokenizer(folder: Path) -> None:
    (folder / "evil.py").write_text("from pathlib import Path\nPath('evil-ran').touch()\nclass Evil: pass\n")
    set_json(folder / "tokenizer_config.json", "auto_map", value={"AutoTokenizer": [None, "evil.Evil"]})
    set_json(folder / "tokenizer_config.json", "tokenizer_class", value="Evil")
    (folder / "tokenizer.json").unlink()


CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
SPOILT: dict[str, tuple[Callable[[Path], Any], type[UserError], str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), MissingFiles, "holds no weights"),
    "no processor": (lambda f: (f / PROCESSOR).unlink(), MissingFiles, "no image processor settings"),
    "no tokenizer": (lambda f: [p.unlink() for p in f.glob("[vmt]*[bse].*") if p.stem in ("vocab", "merges")]
                     + [(f / "tokenizer.json").unlink()], MissingFiles, "holds no tokenizer"),
    "config no JSON": (lambda f: (f / CONFIG).write_text("{"), UserError, "is not JSON"),
    "config a list": (lambda f: (f / CONFIG).write_text("[]"), UserError, "not a JSON object"),
    "remote code": (remote_code, UserError, "auto_map"),
    "remote tokenizer": (remote_tokenizer, UserError, "tokenizer cannot be loaded"),
    "unknown family": (lambda f: set_json(f / CONFIG, "model_type", value="blip"), UserError, "known: chinese_clip"),
    "other width": (lambda f: set_json(f / CONFIG, "text_config", "hidden_size", value=32), UserError, "do not fit"),
    "deeper": (lambda f: set_json(f / CONFIG, "vision_config", "num_hidden_layers", value=3), UserError, "missing"),
    "weight gone": (lambda f: rewrite(f, lambda s: s.pop("logit_scale")), UserError, "1 are missing, e.g. logit_scale"),
    "cut weights": (lambda f: cut(f / "model.safetensors"), UserError, "damaged"),
    "evil weights": (evil, UserError, "damaged"),
    "shard gone": (lose_a_shard, MissingFiles, "which model.safetensors.index.json names"),
    "shard elsewhere": (point_outside, UserError, "files beside it"),
    "odd size": (lambda f: set_json(f / PROCESSOR, "crop_size", value={"height": 16, "width": 16}), UserError, "16x16"),
    "odd processor": (lambda f: set_json(f / PROCESSOR, "image_processor_type", value="Nope"), UserError, "processor"),
    "cut tokenizer": (lambda f: cut(f / "tokenizer.json"), UserError, "tokenizer cannot be loaded"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_folder_is_told_in_one_line(
    dual: Callable[..., Path], case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil, kind, part = SPOILT[case]
    folder = dual("clip")
    spoil(folder)

    def use() -> None:
        backbone = load_backbone(f"local-dir:{folder}", device="cpu")
        assert backbone.card.dim
        assert backbone.fingerprint
        backbone.encode_images(backbone.preprocess(Image.new("L", (40, 40)))[None])
        backbone.encode_texts(["edema"])

    with pytest.raises(UserError) as caught:
        use()
    assert type(caught.value) is kind
    assert part in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not list(tmp_path.rglob("evil-ran"))


@pytest.mark.parametrize(
    ("name", "licence", "seen", "sizes"),
    [
        ("pubmed-clip", "MIT", "ROCO", (224, 512)),
        ("medsiglip", "Health AI", "mimic-cxr", (448, 1152)),
        ("xray-siglip", "CC BY-NC", "chexpert", (384, 1024)),
    ],
)
def test_named_models_show_their_cards_without_files(
    name: str,
    licence: str,
    seen: str,
    sizes: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    backbone = load_backbone(name)
    assert backbone.name == name
    assert backbone.card.licence.startswith(licence)
    assert seen in backbone.card.pretraining_data
    assert (backbone.card.image_size, backbone.card.dim) == sizes
    with pytest.raises(MissingFiles, match="hf download"):
        assert backbone.fingerprint
