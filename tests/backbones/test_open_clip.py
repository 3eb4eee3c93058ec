"""Features are open_clip's own; fingerprints follow content; nothing is loaded before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from retune.backbones.load import load_backbone
from retune.backbones.openclip.model import OpenClip

TEXTS = ["No pleural effusion.", "Edema", "the heart is large. " * 9, "effusion", "no edema"]


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (50, 70), dtype=np.uint8))
    colour = Image.fromarray(rng.integers(0, 256, (40, 33, 3), dtype=np.uint8))
    return [grey, colour, grey.convert("LA"), grey.resize((32, 32))]


def direct(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any]:
    """The model as open_clip's own documentation loads it."""
    # open_clip looks a text tower's folder up from where one stands.
    monkeypatch.chdir(folder)
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    return model.eval(), transform, open_clip.get_tokenizer(f"local-dir:{folder}")


@pytest.mark.parametrize("kind", ["plain", "timm", "bert"])
def test_features_are_those_of_open_clip(
    saved: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, transform, tokenizer = direct(saved[kind], monkeypatch)
    backbone = load_backbone(f"local-dir:{saved[kind]}", device="cpu")
    pixels = torch.stack([backbone.preprocess(picture) for picture in pictures()])
    with torch.inference_mode():
        # Radiographs reach a backbone as 8-bit grey.
        upstream = torch.stack([transform(picture.convert("L")) for picture in pictures()])
        images, texts = model.encode_image(upstream), model.encode_text(tokenizer(TEXTS))
    torch.testing.assert_close(backbone.encode_images(pixels), images, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(backbone.encode_texts(TEXTS), texts, rtol=1e-5, atol=1e-6)
    assert backbone.encode_images(pixels).shape == (4, 24)
    assert backbone.encode_texts(TEXTS).dtype == torch.float32
    assert backbone.parameters == sum(p.numel() for p in model.parameters())
    assert isinstance(backbone, OpenClip)
    assert backbone.logit_scale == pytest.approx(model.logit_scale.exp().item())


def test_features_are_not_normalised_and_carry_no_gradient(saved: dict[str, Path]) -> None:
    backbone = OpenClip(f"local-dir:{saved['plain']}")
    features = backbone.encode_texts(TEXTS)
    assert not torch.allclose(features.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-3)
    assert not features.requires_grad
    assert not any(p.requires_grad for p in backbone._model.parameters())
    assert not backbone._model.training


@pytest.mark.parametrize("kind", ["plain", "bert"])
def test_a_text_does_not_depend_on_its_neighbours(saved: dict[str, Path], kind: str) -> None:
    backbone = OpenClip(f"local-dir:{saved[kind]}")
    many = TEXTS * 4
    together = backbone.encode_texts(many)
    alone = {text: backbone.encode_texts([text])[0] for text in TEXTS}
    assert torch.equal(together, torch.stack([alone[text] for text in many]))
    assert torch.equal(backbone.encode_texts(many[::-1]), together.flip(0))
    assert backbone.encode_texts([]).shape == (0, 24)


def test_the_card_says_what_the_files_say(saved: dict[str, Path]) -> None:
    card = load_backbone(f"local-dir:{saved['plain']}").card
    assert (card.dim, card.image_size, card.pretraining_data) == (24, 32, ("unknown",))


def test_the_fingerprint_follows_content_not_place(copied: Callable[..., Path]) -> None:
    for kind in ("plain", "bert"):
        first = OpenClip(f"local-dir:{copied(kind, f'{kind} here')}").fingerprint
        assert first == OpenClip(f"local-dir:{copied(kind, f'{kind} there')}").fingerprint


def _flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _set(path: Path, *keys: str, value: Any) -> None:
    config = json.loads(path.read_text())
    section = config
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: _flip_byte(folder / "open_clip_model.safetensors"),
        lambda folder: _set(
            folder / "open_clip_config.json", "preprocess_cfg", "mean", value=[0.4, 0.5, 0.61]
        ),
        lambda folder: _set(folder / "open_clip_config.json", "model_cfg", "quick_gelu", value=True),
        lambda folder: _set(folder / "tokenizer.json", "normalizer", "lowercase", value=False),
        lambda folder: _set(folder / "text-tower" / "config.json", "hidden_act", value="relu"),
    ],
    ids=["weights", "preprocessing", "architecture", "tokenizer", "text tower"],
)
def test_the_fingerprint_follows_every_part(copied: Callable[..., Path], change: Any) -> None:
    folder = copied("bert")
    before = OpenClip(f"local-dir:{folder}").fingerprint
    change(folder)
    assert OpenClip(f"local-dir:{folder}").fingerprint != before


def test_the_fingerprint_ignores_layout_and_unread_files(copied: Callable[..., Path]) -> None:
    folder = copied()
    before = OpenClip(f"local-dir:{folder}").fingerprint
    config = folder / "open_clip_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()), indent=4, sort_keys=True))
    (folder / "README.md").write_text("notes")
    assert OpenClip(f"local-dir:{folder}").fingerprint == before


def test_nothing_heavy_is_imported_before_encoding(saved: dict[str, Path]) -> None:
    code = (
        "import sys\n"
        "from retune.backbones.load import load_backbone\n"
        f"for name in ('local-dir:{saved['bert']}', 'phantom-clip'):\n"
        "    backbone = load_backbone(name)\n"
        "    print(backbone.fingerprint, backbone.card.dim, backbone.parameters)\n"
        "load_backbone('biomedclip').card\n"
        "heavy = {'torch', 'open_clip', 'transformers', 'timm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_loading_prints_and_logs_nothing(saved: dict[str, Path], duals: dict[str, Path]) -> None:
    """Neither what is imported nor what is read, with a handler that would show all of it and without one."""
    code = (
        "import logging, warnings\n"
        "from PIL import Image\n"
        "from retune.backbones.load import load_backbone\n"
        "def load():\n"
        f"    for folder in {[str(saved['bert']), str(duals['siglip'])]!r}:\n"
        "        backbone = load_backbone(f'local-dir:{folder}', device='cpu')\n"
        "        backbone.encode_images(backbone.preprocess(Image.new('L', (9, 9)))[None])\n"
        "        backbone.encode_texts(['edema'])\n"
        "    assert logging.root.handlers == before, logging.root.handlers\n"
        "    assert logging.root.manager.disable == 0\n"
        "logging.basicConfig(level='DEBUG')\n"
        "before = list(logging.root.handlers)\n"
        "load()\n"
        "logging.root.removeHandler(before.pop())\n"
        "logging.root.setLevel('WARNING')\n"
        "load()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
