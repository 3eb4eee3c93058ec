"""A CheXNet's predictions as features of real radiographs, with texts in their space, and the label table of these.

    python tests/benchmarks/chexnet_features.py preds.csv.gz Data_Entry_2017_v2020.csv.gz OUT
    retune suite tests/benchmarks/real.toml --root OUT --backbone features:OUT/chexnet.safetensors \\
        --prompts OUT/axes.jsonl --out runs/real

The predictions are those of a DenseNet-121 that was trained on other images of NIH ChestX-ray14
(github.com/jrzech/reproduce-chexnet). No picture is needed: an image is 14 numbers, for each label how far the
network's log-odds lie above those of the label among all other images of the table, that is a log-likelihood
ratio. A label's own axis is its positive text and the opposite direction its negative one, so that an image's
zero-shot score is twice its value on the axis, divided by the length of the 14. A caption is the sum of its sentences.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from retune.backbones.lookup.file import to_pieces
from retune.data.readers.nih import NAMES
from retune.files import write_whole
from retune.prompts.bank import Prompt, PromptBank, Source

TABLE = "Data_Entry_2017_v2020.csv"
ABOUT = {"backbone": "CheXNet's 14 logits", "pretraining_data": ["nih"], "licence": "BSD-3-Clause"}
SOURCE = Source("chexnet_features.py", "Name a direction of the logits' space.", "2026-11-26", "hand-written")
EDGE = 1e-7
"""Probabilities are kept this far from 0 and 1."""


def log_odds(likely: np.ndarray) -> np.ndarray:
    """Of probabilities, finite."""
    likely = likely.clip(EDGE, 1 - EDGE)
    return np.log(likely / (1 - likely))


def captions(present: np.ndarray) -> list[tuple[int, ...]]:
    """Every label alone, and every choice among labels that an image of (N, C) has together."""
    sets = {tuple(np.flatnonzero(row).tolist()) for row in np.unique(present, axis=0)}
    chosen = {
        some for labels in sets for size in range(2, len(labels) + 1) for some in combinations(labels, size)
    }
    return [*((c,) for c in range(present.shape[1])), *sorted(chosen)]


def main() -> None:
    """Write features, prompts and label table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("predictions", "labels", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    found = pd.read_csv(given.predictions, index_col="Image Index")
    columns = [name.removeprefix("prob_") for name in found.columns]
    # As text, so that every column stays as it is written.
    table = pd.read_csv(given.labels, dtype=str, keep_default_na=False)
    here = table["Image Index"].isin(found.index)
    given.out.mkdir(parents=True, exist_ok=True)
    table[here].to_csv(given.out / TABLE, index=False)

    present = table["Finding Labels"].str.get_dummies("|").reindex(columns=columns, fill_value=0)
    features = log_odds(found.to_numpy(np.float64)) - log_odds(present[~here].mean().to_numpy())
    labels = [NAMES.get(name, name) for name in columns]
    says = [Prompt(label, "positive", f"CheXNet sees {label}.", SOURCE) for label in labels]
    denies = [Prompt(label, "negative", f"CheXNet sees no {label}.", SOURCE) for label in labels]
    PromptBank("axes", (*says, *denies)).write(given.out / "axes.jsonl")
    axes = np.eye(len(labels), dtype=np.float32)
    texts = {prompt.text: -axis for prompt, axis in zip(denies, axes, strict=True)}
    for caption in captions(present[here].to_numpy()):
        texts[" ".join(says[c].text for c in caption)] = axes[list(caption)].sum(axis=0)
    pieces = to_pieces(
        list(found.index),
        [features.astype(np.float32)],
        len(labels),
        texts=list(texts),
        text_features=np.stack(list(texts.values())),
        about=ABOUT,
    )
    write_whole(given.out / "chexnet.safetensors", pieces)


if __name__ == "__main__":
    main()
