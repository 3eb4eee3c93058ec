"""Where each strategy's time goes: image-steps a CPU second, and the share that is products of matrices.

    python tests/benchmarks/bench_strategies.py [--strategies re-tune,adaptor] [--images N]

Each strategy learns class-incrementally on the synthetic phantom data with its default settings, on one
thread, twice: once timed, and once under PyTorch's profiler, which says what share of the time of ``fit`` was
spent within products (attention and convolutions are such) and how many images the passes counted. The profiler
slows down everything else, so a share is what there is at least. An image-step is one image in one pass.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections.abc import Callable
from typing import Any

# The profiler tells of itself otherwise; read once, when torch is imported.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from torch.profiler import profile

import retune
from retune.errors import UserError
from retune.plugins import registry
from retune.runner.session import Session

PRODUCTS = re.compile(
    r"aten::(mm|addmm|bmm|baddbmm|mv|addmv|dot|.*conv.*|linalg_.*|_?cholesky.*|.*_attention_.*)$"
)
GOAL = 0.7
LEAST = 0.5
"""Below this share a strategy is named."""


def learn(strategy: str, settings: dict[str, Any], around: Callable[[Callable[[], float]], float]) -> None:
    """Run it with something done around each call of ``fit``."""
    plain = Session.fit

    def fit(self: Session, *args: Any) -> float:
        return around(lambda: plain(self, *args))

    Session.fit = fit  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            options = {
                "strategy": strategy,
                "scenario": "class-incremental",
                "replicates": 1,
                "device": "cpu",
            }
            retune.run(out=f"{folder}/run", settings=settings, **options)
    finally:
        Session.fit = plain  # type: ignore[method-assign]


def measure(strategy: str, settings: dict[str, Any]) -> tuple[float, float, int]:
    """CPU seconds of learning, the share of products in them, and image-steps."""
    seconds = products = everything = 0.0
    steps, shuffle = 0, torch.randperm

    def timed(fit: Callable[[], float]) -> float:
        nonlocal seconds
        start = time.process_time()
        told = fit()
        seconds += time.process_time() - start
        return told

    def profiled(fit: Callable[[], float]) -> float:
        nonlocal products, everything
        with profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            told = fit()
        for event in seen.key_averages():
            everything += event.self_cpu_time_total
            products += event.self_cpu_time_total if PRODUCTS.match(event.key) else 0.0
        return told

    def counted(n: int, *args: Any, **options: Any) -> torch.Tensor:
        nonlocal steps
        steps += n
        return shuffle(n, *args, **options)

    torch.randperm = counted  # type: ignore[assignment]
    try:
        learn(strategy, settings, timed)
    finally:
        torch.randperm = shuffle
    learn(strategy, settings, profiled)
    return seconds, products / everything, steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strategies", help="names with commas between (default: all)")
    parser.add_argument("--images", type=int, help="of the phantom (default: its own number)")
    arguments = parser.parse_args()
    chosen = arguments.strategies.split(",") if arguments.strategies else registry("strategies").names()
    settings = {"data.images": arguments.images} if arguments.images else {}
    below = []
    print(f"{'strategy':20} {'fit, CPU s':>10} {'share of products':>18} {'image-steps a CPU second':>25}")
    for name in chosen:
        try:
            seconds, share, steps = measure(name, settings)
        except UserError as error:
            print(f"{name:20} {error}")
            continue
        rate = f"{steps / seconds:,.0f}" if steps else "-"
        print(f"{name:20} {seconds:10.2f} {share:18.2f} {rate:>25}", flush=True)
        below += [name] if share < LEAST else []
    print(f"goal {GOAL}; below {LEAST}: {', '.join(below) or 'none'}")


if __name__ == "__main__":
    main()
