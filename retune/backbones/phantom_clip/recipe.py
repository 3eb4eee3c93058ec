"""Architecture, tokenizer, loss and augmentation of phantom-clip."""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Mapping, Sequence
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
                "timm_pool": "avgmax",
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
    """Make a lower-case WordPiece tokenizer of some texts and save it as ``AutoTokenizer`` reads it.

    Args:
        texts: The reports.
        folder: Where the tokenizer's files go.

    Returns:
        The size of the vocabulary.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts = Counter(
        word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    pieces = vocabulary(counts)
    core = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizer, splitter
    core.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[(name, SPECIAL.index(name)) for name in ("[BOS]", "[EOS]")]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        bos_token="[BOS]",
        eos_token="[EOS]",
        model_max_length=CONTEXT,
    ).save_pretrained(folder)
    return len(pieces)


def vocabulary(counts: Mapping[str, int]) -> list[str]:
    """Words by frequency, the endings that turn one into another, and every letter to spell the rest.

    The trainer of the tokenizers library is not used: it breaks ties differently from run to run.

    Args:
        counts: How often each word occurs.

    Returns:
        At most ``VOCABULARY`` pieces, the special tokens first.
    """
    letters = string.ascii_lowercase + string.digits
    words = sorted((word for word in counts if counts[word] > 1), key=lambda word: (-counts[word], word))
    endings = {f"##{word[k:]}" for word in words for k in range(4, len(word)) if word[:k] in counts}
    pieces = [*SPECIAL, *letters, *string.punctuation, *(f"##{letter}" for letter in letters)]
    return list(dict.fromkeys([*pieces, *sorted(endings), *words]))[:VOCABULARY]


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
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, pairs: torch.Tensor
) -> torch.Tensor:
    """Symmetric InfoNCE (Radford et al., 2021) between images and sentences, with several positives each.

    Args:
        images: float (B, d).
        texts: float (M, d), one row for each distinct sentence of the batch.
        scale: Scalar, the inverse temperature.
        pairs: bool (B, M), which sentences stand in which image's report; no empty row or column.
    """
    images = functional.normalize(images.float(), dim=-1)
    texts = functional.normalize(texts.float(), dim=-1)
    logits = scale * images @ texts.T
    weight = pairs.float()
    of_image = weight / weight.sum(dim=1, keepdim=True) * logits.log_softmax(dim=1)
    of_text = weight / weight.sum(dim=0, keepdim=True) * logits.log_softmax(dim=0)
    return -(of_image.sum(dim=1).mean() + of_text.sum(dim=0).mean()) / 2


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
