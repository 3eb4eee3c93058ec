"""From CheXpert's label table of 223,414 rows to a ready stream, against the limit of 5 seconds.

    python tests/benchmarks/bench_table.py

The table is synthetic: CheXpert's columns, its number of rows and patients, made-up labels. There are
no images; opening a table looks at none. The peer is pandas reading the same file and nothing more.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from retune.data import findings
from retune.data.readers.chexpert import CheXpert
from retune.plugins import registry

ROWS, PATIENTS, LIMIT = 223_414, 64_540, 5.0


def write_table(folder: Path) -> None:
    """A ``train.csv`` of CheXpert's size and columns, and a ``valid.csv``."""
    rng = np.random.default_rng(0)
    for name, rows, patients, first in (("train", ROWS, PATIENTS, 1), ("valid", 234, 200, PATIENTS + 1)):
        owner = np.sort(np.concatenate([np.arange(patients), rng.integers(0, patients, rows - patients)]))
        starts = np.flatnonzero(np.diff(owner, prepend=-1))
        nth = np.arange(rows) - np.repeat(starts, np.diff(np.append(starts, rows))) + 1
        lateral = rng.random(rows) < 0.145
        kind = np.where(lateral, "lateral", "frontal")
        frame = pd.DataFrame(
            {
                "Path": [
                    f"CheXpert-v1.0-small/{name}/patient{p + first:05d}/study{k}/view1_{v}.jpg"
                    for p, k, v in zip(owner, nth, kind, strict=True)
                ],
                "Sex": rng.choice(["Male", "Female"], rows),
                "Age": rng.integers(18, 91, rows),
                "Frontal/Lateral": np.where(lateral, "Lateral", "Frontal"),
                "AP/PA": np.where(lateral, "", rng.choice(["AP", "PA"], rows)),
            }
        )
        for label in findings.CHEXPERT:
            frame[label] = rng.choice(["1.0", "0.0", "-1.0", ""], rows, p=[0.15, 0.1, 0.05, 0.7])
        frame.to_csv(folder / f"{name}.csv", index=False)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder)
        ours, peers = [], []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            dataset = CheXpert().read(folder)
            stream = registry("scenarios").load("class-incremental")().stream(dataset, 0)
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            pd.read_csv(folder / "train.csv", dtype=str)
            peers.append(time.perf_counter() - start)
        print(f"{ROWS:,} rows to a stream of {len(stream)} experiences, {len(stream.test):,} test images")
        print(
            f"retune: {min(ours):.2f} s (slowest {max(ours):.2f}); limit {LIMIT:.0f} s, ratio {LIMIT / min(ours):.1f}"
        )
        print(
            f"pandas, reading the table as text only: {min(peers):.2f} s; ratio {min(ours) / min(peers):.1f}"
        )


if __name__ == "__main__":
    main()
