"""Every benchmark of speed after another, small enough for about ten minutes on two cores.

    python tests/benchmarks/all.py [--only start,suite] [--shared DIR]

Each prints what it measured beside a goal, a limit or a peer measured in the same run. DIR holds public data
(``nih-labels``); what needs it is left out where it is absent. Measure on a machine that does nothing else; a
feature store of its own is used and thrown away.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 600
"""Seconds after which one is ended."""


def benchmarks(shared: Path) -> dict[str, list[str]]:
    """Arguments of each benchmark; those whose data is absent are left out."""
    table = shared / "nih-labels"
    every = {
        "start": ["--times", "3"],
        "bootstrap": ["--rows", "5000", "--slow-replicates", "2"],
        "suite": ["--seeds", "2"],
        "phantom": [],
        "encoding": [],
        "strategies": ["--images", "1200"],
        "stream": ["--root", str(table), "--dim", "128"],
        "threads": ["--images", "300", "--times", "2"],
        "scale": ["--rows", "200000", "--images", "200000"],
    }
    needed = {"stream": table}
    return {name: words for name, words in every.items() if name not in needed or needed[name].is_dir()}


def main() -> None:
    """Run them and print what they print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="names with commas between")
    parser.add_argument("--shared", type=Path, default=HERE.parents[2] / "shared" / "data")
    given = parser.parse_args()
    every = benchmarks(given.shared)
    chosen = given.only.split(",") if given.only else list(every)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        # A benchmark that wants more threads says so to PyTorch.
        environment = os.environ | {"RETUNE_CACHE": cache, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        for name in chosen:
            print(f"\n== {name} ({time.monotonic() - begun:.0f} s)", flush=True)
            command = [sys.executable, str(HERE / f"bench_{name}.py"), *every[name]]
            try:
                done = subprocess.run(command, env=environment, timeout=LIMIT, check=False)
            except subprocess.TimeoutExpired:
                print(f"ended after {LIMIT} s")
                continue
            if done.returncode:
                print(f"failed with exit code {done.returncode}")
    print(f"\n== done ({time.monotonic() - begun:.0f} s)")


if __name__ == "__main__":
    main()
