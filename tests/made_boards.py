"""A small track, runs on it, and entries changed by hand."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retune.runner.run import prepare
from retune.runner.shared import Shared
from retune.runner.spec import Spec

DATA = '{ images = 300, seed = 0, size = 64, sites = ["A", "B", "C", "D"], label_noise = 0.02 }'
REGIONS = '{ images = 60, seed = 2000003, size = 128, sites = ["A", "B", "C", "D"], label_noise = 0.02 }'
TRACKS = f"""
[small-v1]
title = "phantom (synthetic), 300 images, class-incremental in 2 steps"
version = 1
data = "phantom"
data_settings = {DATA}
scenario = "class-incremental"
scenario_settings = {{ steps = 2, order = "dataset" }}

[small-v1.transfer]
name = "segmentation"
data = "phantom/regions"
settings = {{ size = 16, decoder = "ridge", epochs = 5, data = {REGIONS} }}

[small-random-v1]
title = "the same, labels in random order"
version = 1
data = "phantom"
data_settings = {DATA}
scenario = "class-incremental"
scenario_settings = {{ steps = 2, order = "random" }}

[files-v1]
title = "data that needs files"
version = 1
data = "nih"
scenario = "class-incremental"
scenario_settings = {{ steps = 2, order = "dataset" }}
"""
SETTINGS = {"data.images": 300, "data.size": 64}
ENTRY, SCORES = "entry.json", "scores.safetensors"
SHELF = Shared(backbones=False)


def runs_of(folder: Path, strategy: str, *, seeds: int = 3, order: str = "dataset", **settings: Any) -> Path:
    """Run a strategy on the small track; returns the folder given."""
    for seed in range(seeds):
        spec = Spec(
            strategy=strategy,
            scenario="class-incremental",
            seed=seed,
            settings={**SETTINGS, "scenario.steps": 2, "scenario.order": order, **settings},
            replicates=10,
            device="cpu",
        )
        name = f"{Path(strategy).name.replace('/', '-')}-{order}-{seed}"
        prepare(spec, folder / name, shared=SHELF).execute()
    return folder


def copied(board: Path, folder: Path) -> Path:
    """A board to be changed."""
    return Path(shutil.copytree(board, folder, symlinks=True))


def entry(folder: Path) -> dict[str, Any]:
    """What an entry says."""
    document: dict[str, Any] = json.loads((folder / ENTRY).read_text())
    return document


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what an entry says."""
    document = entry(folder)
    change(document)
    (folder / ENTRY).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def put(folder: Path, path: str, value: Any) -> None:
    """Put a value into an entry, at a path such as ``runs.0.seed``."""

    def change(document: dict[str, Any]) -> None:
        at: Any = document
        *way, last = (int(word) if word.isdigit() else word for word in path.split("."))
        for word in way:
            at = at[word]
        at[last] = value

    edit(folder, change)


def resign(folder: Path, scores: bytes) -> None:
    """Give an entry other scores, with the digest and the size that they have."""
    (folder / SCORES).write_bytes(scores)
    put(folder, "scores", {"sha256": hashlib.sha256(scores).hexdigest(), "bytes": len(scores)})


def tensors(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Header and body of an entry's scores."""
    content = (folder / SCORES).read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def packed(header: dict[str, Any] | bytes, body: bytes, size: int | None = None) -> bytes:
    """A safetensors file that may lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + body
