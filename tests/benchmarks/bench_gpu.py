"""What a GPU must do as a processor does it, and how fast it is fed: a few minutes on one card.

    tests/benchmarks/gpu.sh
    python tests/benchmarks/bench_gpu.py [--device cuda] [--pictures 2048] [--images 600] [--strategies re-tune,lora]

Products of matrices say what the card can do. Then: features made on the CPU and on the card agree; every built-in
strategy learns on it as on the CPU, the same bits twice; a run that is killed goes on to the same bits;
bf16 beside fp32; and encoding 1024 px PNG files with a ViT-B/16 (random weights) beside the bare model, beside
decoding alone, in threads and in processes, and beside the card's products. Wall seconds: measure on a machine that
does nothing else.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from bench_encoding import line, random_vit, written
from torch.nn.functional import cosine_similarity

import retune
from retune.backbones.base import Backbone
from retune.backbones.load import load_backbone
from retune.backbones.precision import Precision
from retune.data.dataset import Dataset
from retune.data.images import FileImages
from retune.data.readers.phantom import Phantom
from retune.errors import UserError
from retune.features.encode import BATCH, encode_images
from retune.plugins import registry
from retune.results.result import CHECKPOINT_FILE, Result
from retune.system import cores

VIT_FLOPS = 35.2e9
"""Of one picture through a ViT-B/16 at 224 px: 17.6 billion multiplications and as many additions."""
AGREES: dict[Precision, float] = {"fp32": 0.99999, "bf16": 0.999}
"""Least cosine between features of the CPU and of the card."""

LEARNS = 0.01
"""How far a strategy's final AUC may be from the CPU's."""


def wall(work: Callable[[], object], device: str) -> float:
    """Seconds of some work, the device's part of it included."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def products(device: str) -> dict[Precision, float]:
    """Operations a second of large products of matrices, by precision."""
    side = 8192 if device.startswith("cuda") else 1024
    rates: dict[Precision, float] = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        if name == "bf16" and not device.startswith("cuda"):
            continue  # A processor without the instructions takes minutes for what takes seconds.
        a, b = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
        _ = a @ b
        rates[name] = 2 * side**3 / min(wall(lambda a=a, b=b: a @ b, device) for _ in range(5))  # type: ignore[misc]
    return rates


def same_features(device: str, backbones: list[str], data: Dataset, precisions: Iterable[Precision]) -> None:
    """Print the least cosine between features of the CPU and those of the card."""
    rows = np.arange(len(data))
    for name in backbones:
        reference = torch.from_numpy(encode_images(load_backbone(name, device="cpu"), data, rows).features)
        for precision in precisions:
            least = AGREES[precision]
            there = load_backbone(name, device=device, precision=precision)
            lowest = cosine_similarity(
                reference, torch.from_numpy(encode_images(there, data, rows).features)
            ).min()
            line(
                f"{Path(name).name}, {precision}: least cosine with the CPU's features",
                f"{least}",
                f"{lowest:.6f}",
                lowest >= least,
            )


def strategies(device: str, vit: str, folder: Path, images: int, names: Sequence[str]) -> None:
    """Strategies on the CPU and twice on the card, class-incrementally."""
    for name in names:
        found: list[Any] = []
        needs = registry("strategies").load(name).needs
        backbone = vit if "prompted-tower" in needs else "phantom-clip"
        for k, where in enumerate(("cpu", device, device)):
            options = {"strategy": name, "backbone": backbone, "replicates": 1, "device": where}
            try:
                result = retune.run(out=folder / f"{name}-{k}", settings={"data.images": images}, **options)
            except UserError as error:
                print(f"{name}: {error}", flush=True)
                break
            except Exception as error:  # What one strategy does is told, and the others go on.
                print(f"{name} on {where}: {type(error).__name__}: {error}: not met", flush=True)
                break
            found.append((result.array("auc_matrix"), result.cost.fit_seconds))
        else:
            (cpu, cpu_seconds), (once, seconds), (again, _) = found
            line(
                f"{name}: learns as on the CPU",
                f"final AUC within {LEARNS}",
                f"{np.nanmean(once[-1]):.4f}, {np.nanmean(cpu[-1]):.4f} on the CPU, {np.nanmean(once[0]):.4f} at first",
                abs(np.nanmean(once[-1]) - np.nanmean(cpu[-1])) <= LEARNS,
            )
            line(
                f"{name}: the same bits twice ({seconds:.1f} s, {cpu_seconds:.1f} s on the CPU)",
                "same",
                f"largest difference from the CPU's {np.nanmax(np.abs(once - cpu)):.4f}",
                np.array_equal(once, again, equal_nan=True),
            )


def killed(device: str, folder: Path, images: int) -> None:
    """A run that is killed after its second experience and issued again, beside one that is not."""
    words = f"run --strategy re-tune --device {device} --replicates 1 --set data.images={images}".split()
    command = [sys.executable, "-m", "retune", *words, "--set", "epochs=60", "--out"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = subprocess.Popen([*command, str(folder / "killed")], **silent)  # type: ignore[call-overload]
    checkpoint = folder / "killed" / CHECKPOINT_FILE
    seen: set[int] = set()
    while run.poll() is None and len(seen) < 2:
        if checkpoint.exists():
            seen.add(checkpoint.stat().st_mtime_ns)
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    ended = run.wait()
    results = []
    for name in ("killed", "whole"):
        subprocess.run([*command, str(folder / name)], check=True, **silent)  # type: ignore[call-overload]
        results.append(Result.read(folder / name / "result.json").array("auc_matrix"))
    line(
        f"killed (signal {-ended}) after {len(seen)} of 5 experiences, then issued again",
        "the same bits",
        f"final AUC {np.nanmean(results[0][-1]):.4f} and {np.nanmean(results[1][-1]):.4f}",
        ended == -signal.SIGKILL and np.array_equal(*results, equal_nan=True),
    )


def feeding(device: str, name: str, data: Dataset, rates: dict[Precision, float]) -> None:
    """Pictures a second: decoding alone, the bare model, and the whole pipeline, which waits for the slower."""
    rows, n = np.arange(len(data)), len(data)
    side = load_backbone(name).card.image_size
    batch = torch.randint(0, 256, (BATCH, side, side), dtype=torch.uint8)
    hashing = n / wall(lambda: data.images.keys(rows), "cpu")
    decoded = load_backbone(name, device="cpu")
    speeds = []
    for processes in (0, max(2, cores())):
        with (
            tempfile.TemporaryDirectory() as store,
            patch.dict(os.environ, RETUNE_CACHE=store),
            patch("retune.features.encode._Job._processes", return_value=processes),
        ):
            speeds.append(n / wall(lambda: encode_images(decoded, data, rows, kind="pixels"), "cpu"))
    threads, decode = speeds
    print(
        f"on {cores()} cores: hashing {hashing:.0f}, hashing, decoding and keeping pixels {threads:.0f} pictures/s in "
        f"threads, {decode:.0f} in processes",
        flush=True,
    )
    for precision in rates:
        backbone = load_backbone(name, device=device, precision=precision)
        bare = BATCH / _steady(backbone, batch, device)
        piped = n / wall(lambda b=backbone: encode_images(b, data, rows), device)  # type: ignore[misc]
        binds = min(decode, bare)
        line(
            f"{precision}: the pipeline against the slower of decoding and the bare model",
            "0.95",
            f"{piped / binds:.2f} ({piped:.0f} pictures/s; bare model {bare:.0f}, "
            f"{bare * VIT_FLOPS / rates[precision]:.2f} of the card's products)",
            piped >= 0.95 * binds,
        )


def _steady(backbone: Backbone, batch: torch.Tensor, device: str) -> float:
    backbone.encode_images(batch)  # Reads the weights.
    return min(wall(lambda: [backbone.encode_images(batch) for _ in range(5)], device) / 5 for _ in range(3))


def pictures(folder: Path, n: int) -> Dataset:
    """PNG files of 1024 px, each another to the store by a note at its end, as a data set."""
    kinds = written(folder, 24)
    paths = [folder / f"copy{k}.png" for k in range(n)]
    for k, path in enumerate(paths):
        path.write_bytes(kinds["8-bit PNG, 1024 px"][k % 24].read_bytes() + str(k).encode())
    data = Phantom(images=n).read(None)
    data = data.take(np.arange(min(n, len(data))))
    return replace(data, images=FileImages(np.array([str(path) for path in paths[: len(data)]])))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--pictures", type=int, default=2048, help="1024 px PNG files to encode")
    parser.add_argument("--images", type=int, default=600, help="of the phantom, for strategies")
    parser.add_argument("--strategies", help="names with commas between (default: all)")
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["RETUNE_CACHE"] = str(folder / "cache")
        card = (
            torch.cuda.get_device_name(given.device) if given.device.startswith("cuda") else "this processor"
        )
        rates = products(given.device)
        told = ", ".join(f"{rate / 1e12:.0f} TFLOP/s {kind}" for kind, rate in rates.items())
        print(f"{card}, torch {torch.__version__}: products at {told}", flush=True)
        (folder / "vit").mkdir()
        vit = random_vit(folder / "vit")
        same_features(given.device, ["phantom-clip", vit], Phantom(images=128).read(None), rates)
        feeding(given.device, vit, pictures(folder, given.pictures), rates)
        killed(given.device, folder, given.images)
        names = given.strategies.split(",") if given.strategies else registry("strategies").names()
        strategies(given.device, vit, folder, given.images, names)
    print(f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
