"""The recipe of phantom-clip: ``python -m retune.backbones.phantom_clip.train --out DIR``.

About eight minutes on two cores. The same machine, thread count and settings give the same weights.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from retune.backbones.phantom_clip.pairs import Pairs, make_pairs, sentences
from retune.backbones.phantom_clip.publish import publish
from retune.backbones.phantom_clip.recipe import (
    CONTEXT,
    augment,
    config,
    contrastive_loss,
    encode_text,
    train_tokenizer,
)
from retune.backbones.quiet import quiet


@dataclass(frozen=True)
class Settings:
    """Everything that decides what comes out.

    Args:
        images: Number of image-report pairs.
        steps: Number of optimiser steps.
        batch: Pairs per step.
        lr: Highest learning rate, reached after ``warmup`` steps and then lowered along a cosine.
        warmup: Number of steps.
        horizon: Step at which the cosine would reach zero. Stopping before keeps the model from being so
            good that nothing is left for a benchmark to tell apart.
        weight_decay: AdamW's, on matrices alone.
        seed: Of the data; far from any that a benchmark uses.
        init_seed: Of weights, order and augmentation.
        threads: torch's threads; another number gives other rounding.
        tower: timm name of the image tower.
    """

    images: int = 16_000
    steps: int = 550
    batch: int = 128
    lr: float = 1.5e-3
    warmup: int = 100
    horizon: int = 1_200
    weight_decay: float = 0.05
    seed: int = 1_000_003
    init_seed: int = 0
    threads: int = 2
    tower: str = "fasternet_t0"


def train(
    settings: Settings, pairs: Pairs, folder: Path, progress: Progress
) -> tuple[Any, dict[str, Any], float]:
    """Learn tokenizer and model.

    Args:
        settings: The recipe's numbers.
        pairs: What to learn from.
        folder: Where the tokenizer's files go.
        progress: Shows how far it is.

    Returns:
        The model, its configuration and the mean loss of the last 100 steps.
    """
    from transformers import PreTrainedTokenizerFast

    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.init_seed)
    random = np.random.default_rng(settings.init_seed)
    about = config(train_tokenizer(pairs.texts, folder), settings.tower)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    with quiet():
        from open_clip import CLIP

        model = CLIP(**about["model_cfg"]).to(memory_format=torch.channels_last).train()
    optimiser = _optimiser(model, settings)
    numbers: dict[str, int] = {}
    parts = [[numbers.setdefault(s, len(numbers)) for s in sentences(text)] for text in pairs.texts]
    tokens = tokenizer(
        list(numbers), padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt"
    ).input_ids
    lengths = (tokens != tokenizer.pad_token_id).sum(dim=1)
    task = progress.add_task("training", total=settings.steps, loss="")
    losses: deque[float] = deque(maxlen=100)
    order: list[int] = []
    for step in range(settings.steps):
        if len(order) < settings.batch:
            order = random.permutation(len(parts)).tolist()
        rows, order = np.sort(order[: settings.batch]), order[settings.batch :]
        said = np.unique(np.concatenate([parts[row] for row in rows]))
        together = torch.zeros(len(rows), len(said), dtype=torch.bool)
        for i, row in enumerate(rows):
            together[i, np.searchsorted(said, parts[row])] = True
        pixels = augment(torch.from_numpy(pairs.images[rows]), random)
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * _schedule(step, settings)
        with torch.autocast("cpu", torch.bfloat16):
            images = model.visual(pixels.contiguous(memory_format=torch.channels_last))
            captions = encode_text(model, tokens[said, : int(lengths[said].max())])
        loss = contrastive_loss(images, captions, model.logit_scale.exp(), together)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(loss.item())
        progress.update(task, advance=1, loss=f"loss {np.mean(losses):.3f}")
    return model.eval(), about, float(np.mean(losses))


def _optimiser(model: Any, settings: Settings) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(0.9, 0.98))


def _schedule(step: int, settings: Settings) -> float:
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.horizon - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the data, train, write the model's folder."""
    parser = argparse.ArgumentParser(description="Train phantom-clip.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model's files")
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    given = vars(parser.parse_args(arguments))
    out: Path = given.pop("out")
    settings = Settings(**given)
    start = time.monotonic()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch, Progress(*columns) as progress:
        folder = Path(scratch) / "model"
        folder.mkdir()
        pairs = make_pairs(settings.seed, settings.images, Path(scratch), progress)
        model, about, loss = train(settings, pairs, folder, progress)
        publish(model, about, folder, out, asdict(settings), pairs, loss, time.monotonic() - start)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
