"""A CheXNet's predictions as features of real radiographs, and the label table of just these.

    python tests/benchmarks/chexnet_features.py preds.csv.gz Data_Entry_2017_v2020.csv.gz OUT
    retune suite tests/benchmarks/real.toml --root OUT --backbone features:OUT/chexnet.safetensors --out runs/real

The predictions are those of a DenseNet-121 that was trained on other images of NIH ChestX-ray14
(github.com/jrzech/reproduce-chexnet); their 14 logits are the features. No picture is needed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

TABLE = "Data_Entry_2017_v2020.csv"
ABOUT = {"backbone": "CheXNet's 14 logits", "pretraining_data": ["nih"], "licence": "BSD-3-Clause"}
EDGE = 1e-7
"""Probabilities are kept this far from 0 and 1."""


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("predictions", "labels", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    found = pd.read_csv(given.predictions, index_col="Image Index")
    likely = found.to_numpy(np.float64).clip(EDGE, 1 - EDGE)
    given.out.mkdir(parents=True, exist_ok=True)
    arrays = {
        "image_ids": np.frombuffer("\n".join(found.index).encode(), np.uint8),
        # safetensors writes memory as it lies, and pandas hands out columns.
        "image_features": np.ascontiguousarray(np.log(likely / (1 - likely)), np.float32),
    }
    save_file(arrays, given.out / "chexnet.safetensors", {"about": json.dumps(ABOUT)})
    # As text, so that every column stays as it is written.
    labels = pd.read_csv(given.labels, dtype=str, keep_default_na=False)
    labels[labels["Image Index"].isin(found.index)].to_csv(given.out / TABLE, index=False)


if __name__ == "__main__":
    main()
