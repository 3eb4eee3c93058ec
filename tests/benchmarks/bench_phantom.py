"""The phantom: CPU time to draw a picture, and the first result of all, for which nothing is cached.

    python tests/benchmarks/bench_phantom.py [--no-run]

Times of drawing are CPU seconds of one thread, the best of several batches, so that neighbours do not count. The
first result is a whole command in a process of its own with an empty cache; its limit is meant for two idle cores.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from retune.data.phantom import BENCHMARK_SITES, exams, render
from retune.system import cores, keep_freed_memory

MILLISECONDS = 4.0
SECONDS = 25.0
COMMAND = ("run", "--scenario", "class-incremental", "--strategy", "re-tune", "--seed", "0")


def drawing(batch: int, repeats: int, size: int) -> float:
    """CPU milliseconds a picture, of the best batch."""
    keep_freed_memory()  # As the encoder does.
    table = exams(0, batch * (repeats + 1), BENCHMARK_SITES)
    taken = []
    for k in range(repeats + 1):
        start = time.thread_time()
        render(table, np.arange(k * batch, (k + 1) * batch), size=size)
        taken.append((time.thread_time() - start) / batch * 1000)
    return min(taken[1:])  # the first warms up


def first_result() -> tuple[float, float]:
    """Wall and CPU seconds of a run that finds nothing cached."""
    with tempfile.TemporaryDirectory() as folder:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "retune.cli.main", *COMMAND, "--out", f"{folder}/run"],
            env={**os.environ, "RETUNE_CACHE": f"{folder}/cache"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main(words: list[str] | None = None) -> None:
    """Measure and print a line each: what, goal, measured, met or not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--no-run", action="store_true", help="leave out the first result")
    given = parser.parse_args(words)
    each = drawing(given.batch, given.repeats, given.size)
    met = "met" if each <= MILLISECONDS else "not met"
    print(
        f"drawing a phantom picture of {given.size} px: goal {MILLISECONDS} ms, measured {each:.2f} ms: {met}"
    )
    if not given.no_run:
        wall, cpu = first_result()
        met = "met" if wall <= SECONDS else "not met"
        print(
            f"first result, nothing cached: goal {SECONDS:.0f} s on two idle cores, measured {wall:.1f} s "
            f"({cpu:.1f} CPU s, {cpu / wall:.2f} of {cores()} cores had): {met}"
        )


if __name__ == "__main__":
    main()
