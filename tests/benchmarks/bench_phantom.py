"""Speed of the phantom generator on one core, against its limit of 100 images a second at 128 px.

OMP_NUM_THREADS=1 taskset -c 0 python tests/benchmarks/bench_phantom.py
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from retune.data.phantom import BENCHMARK_SITES, exams, render

LIMIT = 100.0


def main() -> None:
    """Render batches and print images a second, and the ratio to the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    given = parser.parse_args()
    table = exams(0, given.batch * (given.repeats + 1), BENCHMARK_SITES)
    rates = []
    for k in range(given.repeats + 1):
        start = time.perf_counter()
        render(table, np.arange(k * given.batch, (k + 1) * given.batch), size=given.size)
        rates.append(given.batch / (time.perf_counter() - start))
    rates = rates[1:]  # the first warms up
    median = statistics.median(rates)
    print(f"generator: median {median:.0f} images/s (least {min(rates):.0f}, most {max(rates):.0f})")
    print(f"limit:     {LIMIT:.0f} images/s")
    print(f"ratio:     {median / LIMIT:.2f}")


if __name__ == "__main__":
    main()
