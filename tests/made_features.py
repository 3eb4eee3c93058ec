"""Features made for small phantoms, so that nothing has to be encoded where the encoder is not what is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save_file

from retune.data.dataset import Dataset
from retune.data.readers.phantom import Phantom

SETTINGS: Final[dict[str, Any]] = {"data.images": 300, "data.size": 64}
"""Of the data set that the features belong to."""


def dataset() -> Dataset:
    """Of 300 made-up images."""
    return Phantom(images=300, size=64).read(None)


def vectors(table: Dataset) -> Any:
    """Noisy signs of the labels, float32 (N, 14)."""
    noise = np.random.default_rng(0).standard_normal(table.targets.shape)
    return (np.nan_to_num(table.targets) * 2 + noise).astype(np.float32)


def features_file(folder: Path) -> str:
    """A backbone of looked-up features without texts."""
    table, path = dataset(), folder / "features.safetensors"
    ids = np.frombuffer("\n".join(table.image_id.tolist()).encode(), np.uint8)
    save_file({"image_ids": ids, "image_features": vectors(table)}, path, {"about": "{}"})
    return f"features:{path}"
