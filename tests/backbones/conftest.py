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


@pytest.fixture(autouse=True)
def _no_questions_to_a_real_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the hub answers is asked in a process of its own, by the tests that mean to ask."""
    monkeypatch.setattr("retune.backbones.hub.answers", lambda *_: None)


SENTENCES = [
    "no pleural effusion",
    "the heart is large",
    "edema of both lungs",
    "a small pneumothorax is seen on the left",
    "no acute finding",
]


def _byte_pairs(folder: Path) -> None:
    """A CLIP tokenizer in the format of OpenAI's: vocab.json, merges.txt and tokenizer.json."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    core = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False)]
    )
    letters = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=560,
            initial_alphabet=[*letters, *(f"{letter}</w>" for letter in letters)],
            end_of_word_suffix="</w>",
            show_progress=False,
        ),
    )
    trained = json.loads(core.to_str())["model"]
    words = sorted(trained["vocab"], key=trained["vocab"].get)
    # Start and end come last, as in the original.
    vocab = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    merges = [tuple(pair) for pair in trained["merges"]]
    CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=14).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]))


def _sentence_pieces(folder: Path) -> None:
    """A SigLIP tokenizer: spiece.model and the settings of google/siglip's."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "spiece.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES),
            model_writer=file,
            vocab_size=38,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    special = {"eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": "SiglipTokenizer", "model_max_length": 16, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**settings, **special, "model_input_names": ["input_ids"]})
    )
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


def _save_dual(folder: Path, kind: str) -> Path:
    """Write a random dual encoder as transformers itself would."""
    import torch
    import transformers as tf

    tower: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    vision = {**tower, "hidden_size": 32, "image_size": 32, "patch_size": 8, "attention_dropout": 0.0}
    text = {**tower, "hidden_size": 24 if kind == "clip" else 32, "vocab_size": 600}
    config: Any
    if kind == "clip":
        _byte_pairs(folder)
        end = len(json.loads((folder / "vocab.json").read_text())) - 1
        text |= {
            "max_position_embeddings": 14,
            "eos_token_id": end,
            "bos_token_id": end - 1,
            "pad_token_id": end,
        }
        config = tf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
        size: dict[str, Any] = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
        processor: Any = tf.CLIPImageProcessor(**size)
    elif kind == "chinese_clip":
        _tokenizer(folder)
        text |= {"max_position_embeddings": 14}
        config = tf.ChineseCLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
        processor = tf.ChineseCLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    else:
        _sentence_pieces(folder)
        text |= {"max_position_embeddings": 16}
        config = tf.SiglipConfig(text_config=text, vision_config=vision)
        processor = tf.SiglipImageProcessor(size={"height": 32, "width": 32})
    torch.manual_seed(0)
    model = tf.AutoModel.from_config(config)
    with torch.no_grad():
        # Fresh layers are so small and so alike that a wrong turn would hardly show.
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)
    settings = processor.to_dict()
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="session")
def duals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of each kind of dual encoder of transformers; tests copy before they change."""
    root = tmp_path_factory.mktemp("duals")
    return {kind: _save_dual(root / kind, kind) for kind in ("clip", "siglip", "chinese_clip")}


@pytest.fixture
def dual(duals: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Copy one of the dual encoders to where it may be spoilt."""
    import shutil

    def copy(kind: str = "clip", name: str = "dual") -> Path:
        return Path(shutil.copytree(duals[kind], tmp_path / name))

    return copy
