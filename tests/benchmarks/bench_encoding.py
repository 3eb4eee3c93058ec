"""Encoding real radiographs through the whole pipeline, against the bare encoder; and bf16 against fp32.

    python tests/benchmarks/bench_encoding.py --root DIR [--images 621]

DIR holds radiographs of NIH ChestX-ray14 and their table. The encoder is a ViT-B/16 at 224 px with random
weights in open_clip's format. Both sides run in this process, batch after batch in turn with the same
threads: the bare side has its pixels in memory; the pipeline finds, hashes, decodes, resizes,
normalises, encodes and stores. Limits: pipeline at least 0.9 of bare; nothing encoded a second time.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

from retune.backbones.base import Backbone
from retune.backbones.load import load_backbone
from retune.data.readers.nih import NIH
from retune.features.encode import BATCH, encode_images

ARCHITECTURE = "ViT-B-16"


def random_vit(folder: Path) -> str:
    """A folder in open_clip's format with a randomly initialised model."""
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE, pretrained=None)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    config = {"model_cfg": open_clip.get_model_config(ARCHITECTURE), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


def bare(backbone: Backbone, n: int) -> float:
    """Images per second of the encoder alone, on pictures that lie in memory."""
    side = backbone.card.image_size
    pixels = torch.randint(0, 256, (BATCH, side, side), dtype=torch.uint8)
    backbone.encode_images(pixels)
    batches = -(-n // BATCH)
    start = time.perf_counter()
    for _ in range(batches):
        backbone.encode_images(pixels)
    return batches * BATCH / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--images", type=int, default=621)
    arguments = parser.parse_args()
    data = NIH().read(arguments.root)
    rows = np.arange(min(arguments.images, len(data)))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RETUNE_CACHE"] = f"{folder}/cache"
        name = random_vit(Path(folder))
        speeds, vectors = {}, {}
        for precision in ("fp32", "bf16"):
            backbone = load_backbone(name, precision=precision)  # type: ignore[arg-type]
            backbone.encode_images(torch.zeros(1, 224, 224, dtype=torch.uint8))  # load the weights
            before = bare(backbone, len(rows) // 2)
            start = time.perf_counter()
            encoded = encode_images(backbone, data, rows)
            piped = encoded.images_encoded / (time.perf_counter() - start)
            after = bare(backbone, len(rows) // 2)
            speeds[precision] = alone = (before + after) / 2
            vectors[precision] = torch.from_numpy(encoded.features)
            print(
                f"{precision}: bare {alone:.2f} images/s ({before:.2f}, {after:.2f}), pipeline {piped:.2f}: "
                f"ratio {piped / alone:.3f}"
            )
            again = encode_images(backbone, data, rows).images_encoded
            print(f"{precision}: encoded on the second call: {again}")
        cosine = torch.nn.functional.cosine_similarity(vectors["fp32"], vectors["bf16"])
        print(
            f"bf16 against fp32: {speeds['bf16'] / speeds['fp32']:.2f} times the speed, "
            f"cosine mean {cosine.mean():.5f}, lowest {cosine.min():.5f}"
        )


if __name__ == "__main__":
    main()
