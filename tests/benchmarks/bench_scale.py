"""Millions of rows and of features: a table, a feature store, and how fast it is verified.

    python tests/benchmarks/bench_scale.py [--rows 1000000 2000000] [--images 1000000 5000000]

Tables and stores are synthetic, lie in a temporary folder (5 million features of 128 numbers take 2.7 GB) and go
again. Every part runs in a process of its own on one thread, with 1,024 open files at most; seconds are of CPU,
but for verifying, where they are on the clock and the peer is reading the same files, which the system does not
hold in memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save

from retune.data import findings
from retune.data.readers.csv import Csv
from retune.features.encode import SHARD
from retune.features.housekeeping import spaces, verify
from retune.features.store import Space
from retune.plugins import registry

DIM = 128
FILES = 1024
"""Files that a process may usually have open."""
READ, MEMORY, PEER = 10.0, 1000.0, 4.0
"""Limits for a million rows: seconds, megabytes, and times the seconds of pandas reading the same table as text."""
FLAT = 1.2
"""Limit for what a row of the largest table costs, in rows of the smallest."""
OPEN, DESCRIPTORS = 1.0, 50
DISK = 1.1
"""Limit for verifying a store, in times of reading it."""


def write_table(folder: Path, rows: int) -> None:
    """A table of patients with several images each, and CheXpert's labels."""
    rng = np.random.default_rng(0)
    patients = rows * 3 // 10
    owner = np.sort(np.concatenate([np.arange(patients), rng.integers(0, patients, rows - patients)]))
    split = rng.choice(["train", "valid", "test"], patients, p=[0.7, 0.1, 0.2])
    frame = pd.DataFrame(
        {
            "image": [f"files/p{p % 100:02d}/p{p:08d}/s{k:08d}.jpg" for k, p in enumerate(owner.tolist())],
            "patient": [f"p{p:08d}" for p in owner.tolist()],
            "split": split[owner],
            "site": rng.choice(["North", "South", "East"], rows),
            "view": rng.choice(["PA", "AP", "LL"], rows),
            "age": rng.integers(18, 91, rows),
            "sex": rng.choice(["M", "F"], rows),
        }
    )
    for label in findings.CHEXPERT:
        frame[label] = rng.choice(["1.0", "0.0", "-1.0", ""], rows, p=[0.15, 0.5, 0.05, 0.3])
    frame.to_csv(folder / "labels.csv", index=False)


def space() -> Space:
    """The space of the cache that is named now."""
    return Space({"backbone": "bench", "precision": "fp32", "device": "cpu"}, "images", name="bench")


def write_store(images: int) -> None:
    """Shards as encoding leaves them, without waiting for the disk after each."""
    folder = space().folder
    rng = np.random.default_rng(0)
    for start in range(0, images, SHARD):
        rows = np.arange(start, min(start + SHARD, images), dtype=np.float32)
        keys = rng.integers(0, 256, (len(rows), 32), dtype=np.uint8)
        data = save({"values": np.repeat(rows[:, None], DIM, 1), "keys": keys})
        (folder / f"{hashlib.sha256(data).hexdigest()}.safetensors").write_bytes(data)
    os.sync()


def timed(clock: Callable[[], float], work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of some work, and what it gave."""
    start = clock()
    made = work()
    return clock() - start, made


def pandas_table(folder: Path) -> dict[str, float]:
    """The peer of reading."""
    work = lambda: pd.read_csv(folder / "labels.csv", dtype=str, na_filter=False)  # noqa: E731
    return {"seconds": timed(time.process_time, work)[0]}


def read_table(folder: Path) -> dict[str, float]:
    """From the file to the data set, and on to a stream."""
    seconds, dataset = timed(time.process_time, lambda: Csv(views="all").read(folder))
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1000  # type: ignore[index]
    scenario = registry("scenarios").load("class-incremental")()
    more, _ = timed(time.process_time, lambda: (scenario.stream(dataset, 0), dataset.fingerprint))
    return {"seconds": seconds, "stream": more, "peak": peak}


def open_store(_: Path) -> dict[str, float]:
    """Open a space, find every key in another order, and copy 100,000 rows out of all over it."""
    opening, opened = timed(time.process_time, space)
    rows = np.random.default_rng(1).permutation(len(opened.keys))
    wanted = opened.keys[rows]
    finding, found = timed(time.process_time, lambda: opened.find(wanted))
    copying, values = timed(time.process_time, lambda: opened.gather(rows[:100_000]))
    assert (found == rows).all()
    assert values.shape[1] == DIM
    descriptors = len(os.listdir("/proc/self/fd"))
    return {"open": opening, "find": finding, "copy": copying, "descriptors": descriptors}


def _drop(paths: Sequence[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def verify_store(_: Path) -> dict[str, float]:
    """Verify every shard, and read every shard, both from the disk."""
    paths = list(space().folder.glob("*.safetensors"))
    _drop(paths)
    reading, _ = timed(time.perf_counter, lambda: [len(path.read_bytes()) for path in paths])
    _drop(paths)
    verifying, damaged = timed(time.perf_counter, lambda: verify(spaces()))
    assert damaged == []
    return {"read": reading, "verify": verifying, "gigabytes": sum(p.stat().st_size for p in paths) / 1e9}


PARTS: dict[str, Callable[[Path], dict[str, float]]] = {
    work.__name__: work for work in (pandas_table, read_table, open_store, verify_store)
}


def alone(part: str, folder: Path) -> dict[str, float]:
    """Run a part in a process of its own."""
    words = [sys.executable, __file__, "--part", part, str(folder)]
    told = subprocess.run(words, check=True, capture_output=True, text=True, env=_surroundings(folder)).stdout
    found: dict[str, float] = json.loads(told)
    return found


def _surroundings(folder: Path) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "RETUNE_CACHE": str(folder)}


def line(what: str, goal: str, measured: str, met: bool) -> None:
    """Print one claim."""
    print(f"{what}: {measured}; goal {goal}; {'met' if met else 'not met'}", flush=True)


def tables(sizes: Sequence[int]) -> None:
    """Claims about tables."""
    each = []
    for rows in sizes:
        with tempfile.TemporaryDirectory() as name:
            write_table(Path(name), rows)
            peer, ours = alone("pandas_table", Path(name)), alone("read_table", Path(name))
        millions, seconds = rows / 1e6, ours["seconds"]
        each.append(seconds / rows)
        what = f"table of {rows:,} rows to data set"
        line(what, f"{READ * millions:.0f} s", f"{seconds:.1f} CPU s", seconds <= READ * millions)
        times = seconds / peer["seconds"]
        line(
            f"{what}, beside pandas reading it as text", f"{PEER} times", f"{times:.1f} times", times <= PEER
        )
        most = MEMORY * max(1, millions)
        line(what, f"{most:.0f} MB", f"{ours['peak']:.0f} MB", ours["peak"] <= most)
        print(f"  and on to a stream of experiences and the fingerprint: {ours['stream']:.1f} CPU s")
    if len(each) > 1:
        times = each[-1] / each[0]
        line(
            "a row of the largest table beside one of the smallest", f"{FLAT}", f"{times:.2f}", times <= FLAT
        )


def stores(sizes: Sequence[int]) -> None:
    """Claims about feature stores."""
    for images in sizes:
        with tempfile.TemporaryDirectory() as name:
            os.environ["RETUNE_CACHE"] = name
            write_store(images)
            first, later = alone("open_store", Path(name)), alone("open_store", Path(name))
            what = f"store of {images:,} images, {-(-images // SHARD):,} shards"
            line(f"{what}, opened", f"{OPEN:.0f} s", f"{later['open']:.2f} CPU s", later["open"] <= OPEN)
            print(f"  the first time, when all is hashed: {first['open']:.1f} CPU s")
            print(
                f"  every key found: {later['find']:.1f} CPU s; 100,000 rows copied: {later['copy']:.2f} CPU s"
            )
            count = later["descriptors"]
            line(f"{what}, descriptors", f"below {DESCRIPTORS}", f"{count:.0f}", count < DESCRIPTORS)
            disk = alone("verify_store", Path(name))
            times = disk["verify"] / disk["read"]
            rate = disk["gigabytes"] / disk["verify"]
            line(f"{what}, verified beside read", f"{DISK}", f"{times:.2f} ({rate:.2f} GB/s)", times <= DISK)


def main(words: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 2_000_000])
    parser.add_argument("--images", type=int, nargs="*", default=[1_000_000, 5_000_000])
    parser.add_argument("--part", nargs=2, metavar=("PART", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.part:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
        print(json.dumps(PARTS[given.part[0]](Path(given.part[1]))))
        return
    tables(given.rows)
    stores(given.images)


if __name__ == "__main__":
    main(sys.argv[1:])
