"""Writes phantom-clip's folder: weights, configuration, tokenizer and a model card that is always true."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save

from retune.backbones.phantom_clip.pairs import Pairs
from retune.data.phantom import GENERATOR_VERSION, PRETRAIN_SITES
from retune.files import make_folder, write_whole

_PACKAGES: Final = ("torch", "open_clip_torch", "timm", "transformers", "tokenizers", "numpy")


def publish(
    model: Any,
    about: dict[str, Any],
    tokenizer: Path,
    out: Path,
    settings: dict[str, Any],
    pairs: Pairs,
    loss: float,
    seconds: float,
) -> None:
    """Write the folder, each file whole or not at all.

    Args:
        model: The trained ``open_clip.CLIP``.
        about: Its configuration.
        tokenizer: Folder of the tokenizer's files.
        out: The folder to write.
        settings: The recipe's numbers.
        pairs: What was learnt from.
        loss: Mean loss of the last steps.
        seconds: How long it took.
    """
    make_folder(out)
    for path in sorted(tokenizer.glob("*.json")):
        write_whole(out / path.name, path.read_bytes())
    write_whole(out / "open_clip_config.json", (json.dumps(about, indent=2) + "\n").encode())
    write_whole(out / "open_clip_model.safetensors", save(halved(model.state_dict())))
    parameters = sum(p.numel() for p in model.parameters())
    write_whole(out / "README.md", model_card(about, settings, pairs, loss, seconds, parameters).encode())


def halved(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Matrices in half precision; vectors, whose range may be wider, as they are."""
    return {
        name: (tensor.half() if tensor.ndim > 1 else tensor).contiguous() for name, tensor in state.items()
    }


def model_card(
    about: dict[str, Any],
    settings: dict[str, Any],
    pairs: Pairs,
    loss: float,
    seconds: float,
    parameters: int,
) -> str:
    """The model card, in Markdown.

    Args:
        about: The configuration.
        settings: The recipe's numbers.
        pairs: What was learnt from.
        loss: Mean loss of the last steps.
        seconds: How long it took.
        parameters: Of both towers.
    """
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
    vision, text = about["model_cfg"]["vision_cfg"], about["model_cfg"]["text_cfg"]
    return f"""---
license: apache-2.0
library_name: open_clip
---
# phantom-clip

A small CLIP of **synthetic** chest radiographs and reports: no patient was ever imaged for it, and it knows
nothing of real radiographs. It exists so that retune's examples and tests run offline in minutes. **Never use
it for clinical work.**

| | |
|---|---|
| image tower | timm `{vision["timm_model_name"]}`, {vision["timm_pool"]} pooling, at {vision["image_size"]} px |
| text tower | open_clip transformer, width {text["width"]}, {text["layers"]} layers |
| text length | {text["context_length"]} tokens of a vocabulary of {text["vocab_size"]:,} |
| joint space | {about["model_cfg"]["embed_dim"]} dimensions |
| parameters | {parameters:,}; matrices are stored in float16 |
| licence | Apache-2.0 |

## Training data

{len(pairs.texts):,} image-report pairs of {pairs.patients:,} synthetic patients, drawn by version
{GENERATOR_VERSION} of retune's phantom generator with seed {settings["seed"]:,} at sites
{", ".join(PRETRAIN_SITES)}. The benchmark draws its patients with other seeds: none of them was seen.
Images and report texts alone were used, no labels. SHA-256 over images and texts:
`{pairs.digest}`

## Training

Symmetric InfoNCE with a learnt temperature between the images of a batch and the distinct sentences of their
reports; a sentence that stands in several reports is a positive of each. Images are moved, turned, zoomed and changed
in brightness and contrast a little, never mirrored. AdamW, cosine schedule, bfloat16 autocast. The tokenizer
is a WordPiece vocabulary of the same reports.

{settings["steps"]:,} steps of {settings["batch"]} pairs; mean loss of the last 100 steps {loss:.3f}.
It took {seconds / 60:.0f} minutes in all on {settings["threads"]} threads ({platform.machine()}), with
{packages}.

    python -m retune.backbones.phantom_clip.train --out DIR {flags}

The same machine, thread count and versions give the same weights.
"""
