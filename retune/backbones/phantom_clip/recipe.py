"""Architecture, tokenizer, loss and augmentation of phantom-clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

CONTEXT: Final = 64
VOCABULARY: Final = 2048
DIM: Final = 128
SPECIAL: Final = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
MEAN: Final = 0.47
STD: Final = 0.30


def config(vocabulary: int, tower: str) -> dict[str, Any]:
    """The model in open_clip's format.

    Args:
        vocabulary: Number of tokens.
        tower: timm name of the image tower.
    """
    return {
        "model_cfg": {
            "embed_dim": DIM,
            "vision_cfg": {
                "timm_model_name": tower,
                "timm_model_pretrained": False,
                "timm_pool": "avg",
                "timm_proj": "",
                "image_size": 128,
            },
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": vocabulary,
                # open_clip reads it from this folder, whatever it is called.
                "hf_tokenizer_name": "phantom-clip",
                "width": 128,
                "heads": 4,
                "layers": 2,
                "pad_id": SPECIAL.index("[PAD]"),
                "eos_id": SPECIAL.index("[EOS]"),
                "pool_type": "eos",
            },
        },
        "preprocess_cfg": {
            "mean": [MEAN] * 3,
            "std": [STD] * 3,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def train_tokenizer(texts: Sequence[str], folder: Path) -> int:
    """Learn a lower-case WordPiece vocabulary and save it as ``AutoTokenizer`` reads it.

    Args:
        texts: The reports.
        folder: Where the tokenizer's files go.

    Returns:
        The size of the vocabulary.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        # Every letter, so that words the reports lack can still be spelt.
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789.,;:-()/'%"),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    bos, eos = SPECIAL.index("[BOS]"), SPECIAL.index("[EOS]")
    core.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", bos), ("[EOS]", eos)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        bos_token="[BOS]",
        eos_token="[EOS]",
        model_max_length=CONTEXT,
    ).save_pretrained(folder)
    return int(core.get_vocab_size())


def encode_text(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """open_clip's text tower on tokens cut to the longest of the batch; the same numbers, sooner.

    Args:
        model: An ``open_clip.CLIP``.
        tokens: int64 (B, L), L at most the context length.

    Returns:
        float (B, 128), not normalised.
    """
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    end = (tokens == model.text_eos_id).int().argmax(dim=1)
    pooled: torch.Tensor = x[torch.arange(len(x)), end] @ model.text_projection
    return pooled


def contrastive_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, same: torch.Tensor
) -> torch.Tensor:
    """Symmetric InfoNCE (Radford et al., 2021) in which equal captions are not each other's negatives.

    Args:
        images: float (B, d).
        texts: float (B, d).
        scale: Scalar, the inverse temperature.
        same: bool (B, B), where two captions are equal.
    """
    logits = (
        scale * functional.normalize(images.float(), dim=-1) @ functional.normalize(texts.float(), dim=-1).T
    )
    own = torch.eye(len(logits), dtype=torch.bool)
    logits = logits.masked_fill(same & ~own, -math.inf)
    target = torch.arange(len(logits))
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2


def augment(images: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Move, turn, zoom, and change brightness and contrast a little; never mirror: sides matter.

    Args:
        images: uint8 (B, S, S).
        random: Source of chance.

    Returns:
        float32 (B, 3, S, S), standardised as the model expects it.
    """
    n = len(images)
    turn = random.normal(0, math.radians(2.5), n)
    zoom = np.exp(random.normal(0, 0.04, n))
    theta = np.empty((n, 2, 3), dtype=np.float32)
    theta[:, 0] = np.stack([np.cos(turn) * zoom, -np.sin(turn) * zoom, random.normal(0, 0.05, n)], 1)
    theta[:, 1] = np.stack([np.sin(turn) * zoom, np.cos(turn) * zoom, random.normal(0, 0.05, n)], 1)
    pixels = images.float().div_(255)[:, None]
    grid = functional.affine_grid(torch.from_numpy(theta), list(pixels.shape), align_corners=False)
    pixels = functional.grid_sample(pixels, grid, align_corners=False)
    gain = torch.from_numpy(np.exp(random.normal(0, 0.15, n)).astype(np.float32))[:, None, None, None]
    shift = torch.from_numpy(random.normal(0, 0.08, n).astype(np.float32))[:, None, None, None]
    pixels = ((pixels - MEAN) * gain + MEAN + shift).clamp_(0, 1)
    return pixels.sub_(MEAN).div_(STD).expand(-1, 3, -1, -1)
