"""The packaged model: small, synthetic, reproducible."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import retune.backbones.phantom_clip as package
from retune.backbones.load import load_backbone
from retune.backbones.openclip.model import OpenClip
from retune.backbones.phantom_clip import recipe, train
from retune.backbones.phantom_clip.pairs import sentences
from retune.data.phantom import exams, render

FOLDER = Path(package.__file__).parent


def test_the_package_is_small_and_its_card_says_synthetic() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) <= 15 * 2**20
    assert "synthetic" in (FOLDER / "README.md").read_text().lower()
    card = load_backbone("phantom-clip").card
    assert "synthetic" in card.pretraining_data[0]
    assert (card.image_size, card.dim) == (128, 128)


def test_it_encodes_images_and_texts() -> None:
    backbone = load_backbone("phantom-clip", device="cpu")
    assert backbone.name == "phantom-clip"
    pixels = torch.stack(
        [backbone.preprocess(Image.fromarray(x)) for x in render(exams(5, 3, ("A",)), np.arange(3), size=128)]
    )
    assert pixels.shape == (3, 128, 128)
    for features in (
        backbone.encode_images(pixels),
        backbone.encode_texts(["Edema.", "No edema.", "Fracture."]),
    ):
        assert features.shape == (3, 128)
        assert features.dtype == torch.float32
        assert torch.isfinite(features).all()
        assert (features[0] - features[1]).abs().max() > 1e-3


def test_its_tokenizer_spells_words_it_never_saw() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    tokens = tokenizer("Cardiomyopathy (chronic), 50% xylophone?").input_ids
    config = json.loads((FOLDER / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    assert tokens[-1] == config["eos_id"]
    assert tokens.count(config["eos_id"]) == 1
    assert tokenizer.unk_token_id not in tokens
    assert max(tokens) < config["vocab_size"] == len(tokenizer)


def run(out: Path, *flags: str) -> Path:
    tiny = ["--images", "24", "--steps", "3", "--batch", "8", "--warmup", "1", "--threads", "1"]
    train.main(["--out", str(out), *tiny, *flags])
    return out


def test_the_recipe_gives_the_same_weights_twice_and_a_true_card(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a"), run(tmp_path / "b")
    for path in first.iterdir():
        if path.name != "README.md":
            assert path.read_bytes() == (second / path.name).read_bytes(), path.name
    other = run(tmp_path / "c", "--init-seed", "1")
    weights = "open_clip_model.safetensors"
    assert (first / weights).read_bytes() != (other / weights).read_bytes()
    card = (first / "README.md").read_text()
    for part in (
        "synthetic",
        "24 image-report pairs",
        "3 steps of 8 pairs",
        "--images 24",
        "1,000,003",
        "A, B, E, F",
    ):
        assert part in card
    backbone = OpenClip(f"local-dir:{first}")
    assert backbone.encode_texts(["No edema."]).shape == (1, 128)
    assert f"{backbone.parameters:,}" in card


def test_a_report_is_cut_into_its_sentences() -> None:
    parts = sentences("There is edema. No effusion. The heart is 1.5 times too large.")
    assert parts == ["There is edema.", "No effusion.", "The heart is 1.5 times too large."]


def test_the_vocabulary_is_made_without_chance() -> None:
    counts = {"edema": 5, "effusions": 2, "effusion": 5, "once": 1}
    pieces = recipe.vocabulary(counts)
    assert pieces == recipe.vocabulary(dict(reversed(counts.items())))
    assert pieces[: len(recipe.SPECIAL)] == list(recipe.SPECIAL)
    assert pieces[-3:] == ["edema", "effusion", "effusions"]
    assert "##s" in pieces
    assert "once" not in pieces
    assert len(pieces) == len(set(pieces))


def test_the_loss_is_infonce_with_every_sentence_of_a_report_positive() -> None:
    torch.manual_seed(0)
    images, texts = torch.randn(3, 8), torch.randn(4, 8)
    pairs = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    loss = recipe.contrastive_loss(images, texts, torch.tensor(10.0), pairs).item()
    i, t = images.double().numpy(), texts.double().numpy()
    logits = (
        10 * (i / np.linalg.norm(i, axis=1, keepdims=True)) @ (t / np.linalg.norm(t, axis=1, keepdims=True)).T
    )
    of_image = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    of_text = logits - np.log(np.exp(logits).sum(0, keepdims=True))
    picked = pairs.numpy()
    rows = np.mean([of_image[r][picked[r]].mean() for r in range(3)])
    columns = np.mean([of_text[:, c][picked[:, c]].mean() for c in range(4)])
    assert loss == pytest.approx(-(rows + columns) / 2, abs=1e-5)


def test_cut_texts_give_the_tower_s_own_numbers() -> None:
    backbone = load_backbone("phantom-clip", device="cpu")
    assert isinstance(backbone, OpenClip)
    tokens = backbone._tokenizer(["There is edema.", "No pleural effusion on the left side."])
    length = int((tokens != 0).sum(1).max())
    with torch.no_grad():
        whole = backbone._model.encode_text(tokens)
        torch.testing.assert_close(recipe.encode_text(backbone._model, tokens[:, :length]), whole)


def test_augmentation_never_mirrors() -> None:
    picture = torch.zeros(64, 128, 128, dtype=torch.uint8)
    picture[:, :, :50] = 200
    pixels = recipe.augment(picture, np.random.default_rng(0))
    assert pixels.shape == (64, 3, 128, 128)
    assert (pixels[..., :40].mean((1, 2, 3)) > pixels[..., -40:].mean((1, 2, 3))).all()
