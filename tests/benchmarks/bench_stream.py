"""RE-tune through a stream of NIH's size: memory, and speed against a bare torch loop and Avalanche.

    python tests/benchmarks/bench_stream.py --root DIR [--dim 128 512] [--bf16]
    python tests/benchmarks/bench_stream.py --rows 112120 500000 1000000

DIR holds NIH's whole label table; features are random. With ``--rows`` the table is synthetic instead.
RE-tune's shared adaptors learn class-incrementally in 5 steps, 10 epochs, batch 6,144, and are evaluated
after every step. Three sides do the same optimisation steps on the same rows, in the same process order:

- retune: ``retune run`` as a user types it, in a process of its own; images per second of fitting;
- a bare torch loop: the same adaptors, losses and batches, features in memory, nothing else;
- Avalanche's Naive strategy with the same model, data and batch size.

Limits: resident memory at most the features plus 1.5 GB; at least 0.85 of the bare loop; at least 4 times
Avalanche at 128 dimensions and 1.5 times at 512.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.nn import functional

from retune.data.dataset import Dataset
from retune.data.findings import NIH as LABELS
from retune.methods.adaptors import adaptor
from retune.prompts import load as load_bank
from retune.prompts.embeddings import PromptEmbeddings
from retune.runner.images import embed_prompts
from retune.runner.resolve import resolve
from retune.runner.spec import Spec
from retune.streams.stream import Stream

EPOCHS, BATCH, LR, STEPS = 10, 6144, 1e-4, 5


def write_features(path: Path, ids: np.ndarray[Any, Any], dim: int) -> int:
    """Random features of images and of every prompt; returns the bytes of the image features."""
    rng = np.random.default_rng(0)
    bank = load_bank("language-model")
    texts = sorted({p.text for p in bank.prompts})
    features = rng.standard_normal((len(ids), dim), dtype=np.float32)
    joined = {"image_ids": ids.tolist(), "texts": texts}
    save_file(
        {
            "image_features": features,
            "text_features": rng.standard_normal((len(texts), dim), dtype=np.float32),
            **{k: np.frombuffer("\n".join(v).encode(), dtype=np.uint8) for k, v in joined.items()},
        },
        path,
    )
    return features.nbytes


def write_table(folder: Path, rows: int) -> None:
    """A synthetic table in the format of ``--data csv``: 3.6 images a patient, 14 findings."""
    import pandas as pd

    rng = np.random.default_rng(1)
    number = np.arange(rows).astype(str)
    frame = pd.DataFrame({"image": np.char.add(np.char.add("i", number), ".png")})
    frame["patient"] = rng.integers(0, int(rows / 3.6) + 1, rows)
    for label in LABELS:
        frame[label] = (rng.random(rows) < 0.05).astype(int)
    frame.to_csv(folder / "labels.csv", index=False)


def retune_run(options: list[str], folder: Path, *more: str) -> dict[str, Any]:
    """``retune run`` in a process of its own; its result."""
    command = [sys.executable, "-m", "retune", "run", *options, "--json", "--replicates", "20", *more]
    out = str(folder / f"run-{len(list(folder.glob('run-*')))}")
    done = subprocess.run([*command, "--out", out], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


class Shared(nn.Module):
    """RE-tune's two adaptors as a plain module: features (B, d) to logits (B, C)."""

    def __init__(self, prompts: PromptEmbeddings, dim: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.image = adaptor("mlp", dim, generator=generator)
        self.text = adaptor("mlp", dim, generator=generator)
        self.sides = [(prompts.positive, prompts.positive_label), (prompts.negative, prompts.negative_label)]
        self.n = len(prompts.labels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Positive minus negative similarity."""
        images = functional.normalize(self.image(features), dim=1)
        means = []
        for vectors, label in self.sides:
            unit = functional.normalize(self.text(vectors), dim=1)
            total = unit.new_zeros(self.n, unit.shape[1]).index_add(0, label, unit)
            means.append(functional.normalize(total, dim=1))
        return images @ (means[0] - means[1]).T


def experiences(stream: Stream, features: np.ndarray[Any, Any]) -> Iterator[tuple[Any, Any, list[int]]]:
    """Features, known targets and observed columns of each experience."""
    for e in stream.experiences:
        observed = list(e.observed)
        yield torch.from_numpy(features[e.rows]), torch.from_numpy(e.targets[:, observed]), observed


def bare_loop(model: Shared, stream: Stream, features: np.ndarray[Any, Any], epochs: int = EPOCHS) -> float:
    """Images per second of the same steps without anything around them."""
    seconds, images = 0.0, 0
    for x, y, observed in experiences(stream, features):
        start = time.perf_counter()
        optim = torch.optim.Adam(model.parameters(), lr=LR)
        for _ in range(epochs):
            for batch in torch.randperm(len(x)).split(BATCH):
                optim.zero_grad()
                logits = model(x[batch])[:, observed]
                functional.binary_cross_entropy_with_logits(logits, y[batch]).backward()
                optim.step()
        seconds += time.perf_counter() - start
        images += epochs * len(x)
    return images / seconds


def avalanche_naive(model: Shared, stream: Stream, features: np.ndarray[Any, Any]) -> float:
    """Images per second of Avalanche's Naive strategy."""
    warnings.simplefilter("ignore")
    from avalanche.benchmarks import benchmark_from_datasets
    from avalanche.benchmarks.utils import AvalancheDataset
    from avalanche.benchmarks.utils.data_attribute import DataAttribute
    from avalanche.evaluation.metrics import loss_metrics
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Naive

    sets = []
    for x, y, observed in experiences(stream, features):
        masked = torch.full((len(x), len(stream.labels)), float("nan"))
        masked[:, observed] = y
        labels = DataAttribute([0] * len(x), "targets_task_labels", use_in_getitem=True)
        sets.append(AvalancheDataset([torch.utils.data.TensorDataset(x, masked)], data_attributes=[labels]))

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        known = ~torch.isnan(targets)
        return functional.binary_cross_entropy_with_logits(logits[known], targets[known])

    naive = Naive(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=LR),
        criterion=loss,
        train_mb_size=BATCH,
        train_epochs=EPOCHS,
        evaluator=EvaluationPlugin(loss_metrics(epoch=False), loggers=[]),
    )
    start = time.perf_counter()
    for experience in benchmark_from_datasets(train=sets, test=sets[:1]).train_stream:
        naive.train(experience)
    return EPOCHS * sum(map(len, sets)) / (time.perf_counter() - start)


def stream_of(options: list[str]) -> tuple[Stream, Spec]:
    """The stream that ``retune run`` with these options learns on."""
    spec = Spec(
        data=options[options.index("--data") + 1],
        root=options[options.index("--root") + 1],
        backbone=options[options.index("--backbone") + 1],
        steps=STEPS,
    )
    parts = resolve(spec)
    return parts.scenario.stream(parts.source.read(), 0), spec


def fitted(result: dict[str, Any]) -> tuple[int, float, float]:
    """Images shown, images per second of fitting, and peak memory in GB."""
    images = EPOCHS * sum(e["n_train"] for e in result["scenario"]["experiences"])
    return images, images / result["cost"]["fit_seconds"], result["cost"]["peak_memory_bytes"] / 1e9


def compare(data: str, root: Path, ids: np.ndarray[Any, Any], dim: int, *, bf16: bool, peers: bool) -> None:
    """Measure one size and dimension, and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["RETUNE_CACHE"] = f"{folder}/cache"
        path = folder / "features.safetensors"
        size = write_features(path, ids, dim) / 1e9
        options = [
            "--data",
            data,
            "--root",
            str(root),
            "--backbone",
            f"features:{path}",
            "--strategy",
            "re-tune",
        ]
        options += ["--scenario", "class-incremental", "--steps", str(STEPS), "--set", "adaptors=shared"]
        options += ["--set", f"batch_size={BATCH}", "--set", f"epochs={EPOCHS}", "--set", f"lr={LR}"]
        begun = time.perf_counter()
        images, ours, peak = fitted(retune_run(options, folder))
        whole = time.perf_counter() - begun
        print(
            f"{len(ids):,} rows, {dim} dimensions, {images:,} images shown; the whole command took {whole:.1f} s"
        )
        print(
            f"  memory: peak {peak:.2f} GB, limit features {size:.2f} + 1.5 GB; ratio {peak / (size + 1.5):.2f}"
        )
        print(f"  fitting: retune {ours:,.0f} images/s")
        if not peers:
            return
        stream, spec = stream_of(options)
        parts = resolve(spec)
        prompts = embed_prompts(parts.bank, parts.backbone, stream.labels)
        features = aligned(stream.dataset, ids, path)
        bare_loop(Shared(prompts, dim), stream, features, epochs=1)  # Warm up: imports, memory.
        bare = bare_loop(Shared(prompts, dim), stream, features)
        print(
            f"  fitting: bare torch loop {bare:,.0f} images/s; retune / bare = {ours / bare:.2f} (limit 0.85)"
        )
        if bf16:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                faster = bare_loop(Shared(prompts, dim), stream, features)
            print(
                f"  fitting: bare torch loop in bf16 {faster:,.0f} images/s, {faster / bare:.2f} times fp32"
            )
        _, ours, _ = fitted(retune_run(options, folder, "--seed", "0", "--device", "cpu"))
        print(f"  fitting: retune again {ours:,.0f} images/s; retune / bare = {ours / bare:.2f}")
        naive = avalanche_naive(Shared(prompts, dim), stream, features)
        print(f"  fitting: Avalanche Naive {naive:,.0f} images/s; retune / Avalanche = {ours / naive:.2f}")


def aligned(dataset: Dataset, ids: np.ndarray[Any, Any], path: Path) -> np.ndarray[Any, Any]:
    """Features in the data set's order, in memory."""
    from safetensors.numpy import load_file

    place = {name: i for i, name in enumerate(ids.tolist())}
    found: np.ndarray[Any, Any] = load_file(path)["image_features"][
        [place[i] for i in dataset.image_id.tolist()]
    ]
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="folder of NIH's label table")
    parser.add_argument("--dim", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--rows", type=int, nargs="+", default=[], help="synthetic tables of these sizes")
    parser.add_argument("--bf16", action="store_true", help="the bare loop in bf16, too")
    given = parser.parse_args()
    for dim in given.dim:
        if given.root:
            from retune.data.readers.nih import NIH

            compare("nih", given.root, NIH().read(given.root).image_id, dim, bf16=given.bf16, peers=True)
        for rows in given.rows:
            with tempfile.TemporaryDirectory() as name:
                write_table(Path(name), rows)
                ids = np.array([f"i{k}.png" for k in range(rows)])
                compare("csv", Path(name), ids, dim, bf16=False, peers=False)


if __name__ == "__main__":
    main()
