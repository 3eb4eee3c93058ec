"""Whether the number of threads that is taken is the best one: idle, and beside a busy neighbour.

    python tests/benchmarks/bench_threads.py [--strategies re-tune,lora] [--images 1200] [--times 3]

Each strategy learns and scores class-incrementally on the synthetic phantom data: with the threads that retune
takes by itself, and forced to every number from 1 to the cores there are; in turn, in this process, wall time of
fitting and scoring. A busy neighbour is a process that never pauses. Goal: at most 1.1 times the best number.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

# As the command line has it; read once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

import retune
from retune.runner import loop
from retune.system import cores

STRATEGIES = ("re-tune", "linear-probe", "ridge", "replay", "der++", "adaptor", "m-flag", "lora")
GOAL = 1.1


def seconds(strategy: str, settings: dict[str, Any], threads: int | None) -> float:
    """Wall time of fitting and scoring with a number of threads; with retune's own where None."""
    plain, before = loop.threads, torch.get_num_threads()
    torch.set_num_threads(threads or cores())
    if threads:
        loop.threads = lambda number: nullcontext()  # type: ignore[assignment]
    try:
        with tempfile.TemporaryDirectory() as folder:
            cost = retune.run(
                strategy=strategy, settings=settings, replicates=1, device="cpu", out=f"{folder}/run",
                scenario="class-incremental",
            ).cost  # fmt: skip
        return cost.fit_seconds + cost.score_seconds
    finally:
        loop.threads = plain
        torch.set_num_threads(before)


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """Beside a process that never pauses, or beside none."""
    if not busy:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="names with commas between")
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    small: dict[str, Any] = {"data.images": given.images}
    counts = [None, *range(1, cores() + 1)]
    print(f"{cores()} cores, {given.images:,} synthetic images; medians of {given.times}, wall seconds")
    for strategy in given.strategies.split(","):
        settings = small | ({"epochs": 1} if strategy in ("m-flag", "lora") else {})
        seconds(strategy, settings, None)  # Encode, import, warm up.
        for busy in (False, True):
            found: dict[int | None, list[float]] = {n: [] for n in counts}
            with neighbour(busy):
                for _ in range(given.times):
                    for n in counts:
                        found[n].append(seconds(strategy, settings, n))
            middle = {n: statistics.median(values) for n, values in found.items()}
            own = middle.pop(None)
            ratio = own / min(middle.values())
            told = ", ".join(f"{n}: {value:.2f}" for n, value in middle.items())
            print(
                f"{strategy}, {'beside a busy neighbour' if busy else 'idle'}: own {own:.2f} ({told}); "
                f"ratio to the best {ratio:.2f}, goal {GOAL}: {'met' if ratio <= GOAL else 'not met'}",
                flush=True,
            )


if __name__ == "__main__":
    main()
