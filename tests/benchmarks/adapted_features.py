"""A joint space for two towers that have none: what an adaptor learns of the training images with all their labels.

    python tests/benchmarks/adapted_features.py --root DIR --backbone pair:... --out adapted.safetensors
    retune suite tests/benchmarks/nih_adapted.toml --root DIR --backbone features:adapted.safetensors

Methods that need images and texts in one space can then follow. What they begin with has seen every label of every
training image, as ``joint`` has: only what they do beyond their own zero-shot is theirs, and nothing of it is continual
evidence of the first stage. No test image is seen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import retune
from retune.backbones.lookup.file import to_pieces
from retune.files import write_whole
from retune.progress import silent
from retune.runner.images import encode
from retune.runner.session import Session
from retune.settings import parse_assignments


def main() -> None:
    """Train the adaptor once, then write adapted images and prompts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--root", "--backbone", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--data", default="nih")
    parser.add_argument("--set", action="append", default=[], help="a setting of adaptor, e.g. epochs=50")
    given = parser.parse_args()
    plan = retune.plan(
        retune.Spec(
            strategy="adaptor",
            data=given.data,
            root=given.root,
            backbone=given.backbone,
            settings=parse_assignments(given.set),
        )
    )
    inputs = encode(plan, silent)
    session, stream, parts = Session(plan, inputs), inputs.stream, plan.parts
    learner = session.begin(parts.strategy)
    session.fit(learner, stream.joint(), 1)
    adaptor, towers = parts.strategy.adaptor, parts.strategy.given
    texts = list(dict.fromkeys(prompt.text for prompt in parts.bank.prompts))
    with inputs.view(stream.rows, parts.strategy.requires()) as images, torch.no_grad():
        vectors = towers.adapted(adaptor, images).cpu().numpy()
        words = adaptor.texts(*towers.texts(texts)).cpu().numpy()
    card = parts.backbone.card
    about = {
        "backbone": "an adaptor's space",
        "licence": card.licence,
        "pretraining_data": [*card.pretraining_data, *parts.source.origins],
    }
    ids = stream.dataset.image_id[stream.rows].astype(str).tolist()
    pieces = to_pieces(
        ids,
        [vectors.astype(np.float32)],
        vectors.shape[1],
        texts=texts,
        text_features=words.astype(np.float32),
        about=about,
    )
    write_whole(Path(given.out), pieces)
    print(f"{len(ids):,} images and {len(texts):,} texts in {vectors.shape[1]} dimensions: {given.out}")


if __name__ == "__main__":
    main()
