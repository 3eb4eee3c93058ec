"""Synthetic radiographs and their reports, as pairs to learn from."""

from __future__ import annotations

import hashlib
import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from retune.data.phantom import PRETRAIN_SITES, exams, render, reports

SIZE: Final = 128
_CHUNK: Final = 256


@dataclass(frozen=True)
class Pairs:
    """Images and reports; no label ever enters.

    Args:
        images: uint8 (n, 128, 128), memory-mapped.
        texts: n reports.
        patients: How many patients they are of.
        digest: SHA-256 over images and texts.
    """

    images: npt.NDArray[np.uint8]
    texts: list[str]
    patients: int
    digest: str


def make_pairs(seed: int, n_images: int, folder: Path, progress: Progress, *, workers: int = 2) -> Pairs:
    """Draw the pre-training pairs, in several processes.

    Args:
        seed: Seed of the pre-training sequence; no benchmark uses it.
        n_images: How many images.
        folder: Where the images are kept, 16 KiB each, for as long as they are needed.
        progress: Shows how far it is.
        workers: Number of processes; the images do not depend on it.
    """
    path = folder / "images.u8"
    shape = (n_images, SIZE, SIZE)
    np.memmap(path, dtype=np.uint8, mode="w+", shape=shape).flush()
    task = progress.add_task("images", total=n_images, loss="")
    # A fresh interpreter each: forking after torch has started its threads may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [
            pool.submit(_fill, path, seed, n_images, start, min(start + _CHUNK, n_images))
            for start in range(0, n_images, _CHUNK)
        ]
        for job in as_completed(jobs):
            progress.advance(task, job.result())
    table = exams(seed, n_images, PRETRAIN_SITES)
    texts = reports(table, np.arange(n_images))
    images = np.memmap(path, dtype=np.uint8, mode="r", shape=shape)
    digest = hashlib.sha256(images.data)
    digest.update("\n".join(texts).encode())
    return Pairs(images, texts, len(np.unique(table.patient)), digest.hexdigest())


def _fill(path: Path, seed: int, n_images: int, start: int, stop: int) -> int:
    table = exams(seed, n_images, PRETRAIN_SITES)
    images = np.memmap(path, dtype=np.uint8, mode="r+", shape=(n_images, SIZE, SIZE))
    images[start:stop] = render(table, np.arange(start, stop), size=SIZE)
    images.flush()
    return stop - start


def sentences(report: str) -> list[str]:
    """A report's sentences, with their full stops."""
    return re.split(r"(?<=\.)\s+", report.strip())
