"""Tiny randomly initialised models in open_clip's own format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
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


def _vision() -> dict[str, Any]:
    return {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}


def _config(text: dict[str, Any], vision: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "model_cfg": {"embed_dim": 24, "vision_cfg": vision or _vision(), "text_cfg": text},
        "preprocess_cfg": {
            "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.25, 0.3],
            "interpolation": "bilinear",
            "resize_mode": "squash",
        },
    }


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)


def _save(folder: Path, config: dict[str, Any]) -> Path:
    """Write a random model as open_clip itself would."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model_cfg = json.loads(json.dumps(config["model_cfg"]))
    tower = model_cfg["text_cfg"].get("hf_model_name")
    if tower:
        model_cfg["text_cfg"] |= {"hf_model_name": str(folder / tower), "hf_model_pretrained": False}
        _bert(folder / tower)
    kind = open_clip.CustomTextCLIP if tower else open_clip.CLIP
    save_file(kind(**model_cfg).state_dict(), folder / "open_clip_model.safetensors")
    _tokenizer(folder)
    return folder


def _bert(folder: Path) -> None:
    from transformers import BertConfig

    BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
    ).save_pretrained(folder)


PLAIN_TEXT = {
    "context_length": 12,
    "vocab_size": len(WORDS),
    "hf_tokenizer_name": "anything",
    "width": 32,
    "heads": 2,
    "layers": 1,
    "pool_type": "eos",
    "eos_id": 3,
}


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of each kind; tests copy before they change."""
    root = tmp_path_factory.mktemp("models")
    bert = {
        "context_length": 12,
        "hf_model_name": "text-tower",
        "hf_tokenizer_name": "anything",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
    }
    timm = {"timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
    return {
        "plain": _save(root / "plain", _config(PLAIN_TEXT)),
        "timm": _save(root / "timm", _config(PLAIN_TEXT, timm)),
        "bert": _save(root / "bert", _config(bert)),
    }


@pytest.fixture
def copied(saved: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Copy one of the saved folders to where it may be spoilt."""
    import shutil

    def copy(kind: str = "plain", name: str = "model") -> Path:
        return Path(shutil.copytree(saved[kind], tmp_path / name))

    return copy
