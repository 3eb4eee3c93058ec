"""Radiographs of one's own, in files."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from retune.plugins import registry

Tables = Callable[..., Path]


@pytest.fixture(scope="session")
def own_table() -> Tables:
    """Writes a table of some of ninety radiographs: two of each patient, whose split comes from those that are given."""
    rows = np.arange(90)
    pictures = registry("datasets").load("phantom")(images=90, size=64).read(None).images.load(rows)

    def write(
        root: Path,
        of: range,
        labels: Sequence[str],
        splits: Sequence[str] = ("test", "train", "train"),
        shift: int = 0,
    ) -> Path:
        root.mkdir(exist_ok=True)
        with (root / "table.csv").open("w") as file:
            out = csv.writer(file)
            out.writerow(["image", "patient", "view", "split", *labels])
            for k in of:
                pictures[k].save(root / f"{k:02}.png")
                values = [(k // 2**c + k // 3) % 2 for c in range(len(labels))]
                out.writerow(
                    [f"{k:02}.png", f"p{k // 2 - shift}", "PA", splits[k // 2 % len(splits)], *values]
                )
        return root

    return write
