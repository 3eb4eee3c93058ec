"""Tiny randomly initialised towers, saved exactly as the libraries save the real ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file

from retune.backbones.load import load_backbone
from retune.backbones.pair.model import Pair

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "no",
    "pleural",
    "effusion",
    "edema",
    ".",
    "the",
    "heart",
    "is",
    "large",
]
TEXTS = ["No pleural effusion.", "Edema", "the heart is large. " * 9, "effusion", "no edema " * 50, "", "No."]
PROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 64},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 56, "width": 56},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.25, 0.3],
}
BIT = {**PROCESSOR, "image_processor_type": "BitImageProcessor"}
SQUARE = {**PROCESSOR, "size": {"height": 56, "width": 56}, "do_center_crop": False}

TIMM = ("test_", "swin_")

# Class, configuration, image processor, tokens before the patches, whether the vector is the first token.
VISION: dict[str, tuple[str, dict[str, Any], dict[str, Any], int, bool]] = {
    "dinov2": ("Dinov2Model", {**SMALL, "image_size": 70}, BIT, 1, True),
    "registers": (
        "Dinov2WithRegistersModel",
        {**SMALL, "image_size": 70, "num_register_tokens": 3},
        BIT,
        4,
        True,
    ),
    "vit": (
        "ViTModel",
        {**SMALL, "intermediate_size": 32, "image_size": 56, "patch_size": 14},
        {**SQUARE, "image_processor_type": "ViTImageProcessor"},
        1,
        True,
    ),
    "resnet": (
        "ResNetModel",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        BIT,
        0,
        False,
    ),
    "swin": (
        "SwinModel",
        {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "image_size": 56, "window_size": 7},
        {**SQUARE, "image_processor_type": "ViTImageProcessor"},
        0,
        False,
    ),
    "clip": (
        "CLIPModel",
        {
            "vision_config": {**SMALL, "intermediate_size": 32, "image_size": 56, "patch_size": 14},
            "text_config": {**SMALL, "intermediate_size": 32, "vocab_size": 20, "max_position_embeddings": 8},
        },
        {**PROCESSOR, "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True},
        1,
        False,
    ),
    "siglip": (
        "SiglipVisionModel",
        {**SMALL, "intermediate_size": 32, "image_size": 56, "patch_size": 14},
        {**SQUARE, "image_processor_type": "SiglipImageProcessor"},
        0,
        False,
    ),
}  # fmt: skip


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (90, 120), dtype=np.uint8)).resize((150, 100))
    return [grey, grey.rotate(90, expand=True), grey.convert("RGB").resize((64, 64))]


def save_vision(kind: str, folder: Path) -> None:
    name, config, processor, _, _ = VISION[kind]
    model = getattr(transformers, name)
    torch.manual_seed(1)
    made = model(model.config_class(**config))
    for buffer in (b for n, b in made.named_buffers() if n.endswith("running_var")):
        buffer.uniform_(0.5, 2)
    made.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def save_bert(folder: Path, head: str) -> None:
    config = transformers.BertConfig(
        **SMALL, intermediate_size=64, vocab_size=len(WORDS), max_position_embeddings=80
    )
    torch.manual_seed(2)
    getattr(transformers, head)(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)


def save_pooling(folder: Path, about: dict[str, Any], *more: str) -> None:
    """What sentence-transformers writes beside a BERT."""
    modules = ["Transformer", "Pooling", *more]
    listed = [
        {
            "idx": k,
            "name": str(k),
            "path": f"{k}_{kind}" if k else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for k, kind in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(about))


def save_gpt2(folder: Path) -> None:
    from tokenizers import pre_tokenizers

    folder.mkdir()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, "he", "Ġh", "<|endoftext|>"]
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({piece: k for k, piece in enumerate(pieces)}))
    merges.write_text("#version: 0.2\nh e\nĠ h\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    torch.manual_seed(3)
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=80, vocab_size=len(pieces))
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)


def save_roberta(folder: Path) -> None:
    save_gpt2(folder)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    pieces = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        *(piece for piece in vocabulary if "|" not in piece),
        "|",
        "<mask>",
    ]
    (folder / "vocab.json").write_text(json.dumps({piece: k for k, piece in enumerate(pieces)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    config = transformers.RobertaConfig(
        **SMALL, intermediate_size=64, vocab_size=len(pieces), max_position_embeddings=82
    )
    transformers.RobertaModel(config).save_pretrained(folder)


def save_timm(name: str, folder: Path) -> None:
    torch.manual_seed(4)
    args = {"img_size": 56, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1]} if "swin" in name else {}
    model = timm.create_model(name, pretrained=False, num_classes=3, **args)
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    cfg = {k: v for k, v in model.pretrained_cfg.items() if k not in ("architecture", "tag", "num_classes")}
    about = {
        "architecture": name,
        "model_args": args,
        "num_classes": 3,
        "num_features": model.num_features,
        "pretrained_cfg": cfg,
    }
    (folder / "config.json").write_text(json.dumps(about))


Towers = Callable[[str], Path]


def pair(towers: Towers, vision: str = "dinov2", text: str = "bert") -> Pair:
    scheme = "timm:local-dir" if vision.startswith(TIMM) else "local-dir"
    made = load_backbone(f"pair:{scheme}:{towers(vision)}+local-dir:{towers(text)}", device="cpu")
    assert isinstance(made, Pair)
    return made


def pixels_of(backbone: Pair) -> torch.Tensor:
    return torch.stack([backbone.preprocess(picture) for picture in pictures()])


def save_tower(kind: str, folder: Path) -> None:
    """One of any kind."""
    if kind in VISION:
        save_vision(kind, folder)
    elif kind.startswith(TIMM):
        save_timm(kind, folder)
    elif kind in ("gpt2", "roberta"):
        (save_gpt2 if kind == "gpt2" else save_roberta)(folder)
    else:
        save_bert(folder, "BertForMaskedLM" if kind == "masked" else "BertModel")
        if kind == "sentences":
            save_pooling(folder, {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True})


def require_maps(backbone: Any, pixels: torch.Tensor) -> None:
    """See that a trainable copy of the tower has the backbone's patches in their places."""
    tokens, maps = backbone.encode_tokens(pixels), backbone.image_tower().maps(pixels)
    side = int(maps.shape[-1])
    assert maps.shape == (len(pixels), tokens.shape[2], side, side)
    for place in {0, 1 % side**2, side % side**2, side**2 - 1}:
        found = maps[:, :, place // side, place % side]
        torch.testing.assert_close(found, tokens[:, place], rtol=1e-4, atol=1e-4)
