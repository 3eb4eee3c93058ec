"""What it costs to start: CPU seconds of commands that do little, against a bare interpreter's.

    python tests/benchmarks/bench_start.py [--times 5]

Goals: ``retune --help`` at most 8 bare interpreters; a finished run issued again, whose result is only read, at
most 0.6 s. Medians of whole processes, in turn. The synthetic phantom data; its features are encoded once before.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile

HELP, AGAIN = 8.0, 0.6


def cpu_seconds(command: list[str]) -> float:
    """User and system time of a process and what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    retune = [sys.executable, "-m", "retune"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RETUNE_CACHE"] = f"{folder}/cache"
        small = ["--set", "data.images=300", "--set", "data.size=64", "--device", "cpu"]

        def run(strategy: str, seed: int) -> list[str]:
            out = f"{folder}/{strategy}-{seed}"
            return [*retune, "run", "--strategy", strategy, *small, "--seed", str(seed), "--out", out]

        cpu_seconds(run("re-tune", 0))
        commands = {
            "a bare interpreter": [sys.executable, "-c", "pass"],
            "retune --help": [*retune, "--help"],
            "a finished run again": run("re-tune", 0),
            "import torch": [sys.executable, "-c", "import torch"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(times):
            for name, command in commands.items():
                seconds[name].append(cpu_seconds(command))
        for k, name in enumerate(("ridge", "re-tune")):
            seconds[f"a run of {name}, features cached"] = [cpu_seconds(run(name, k + 1))]
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in middle.items():
        print(f"{name}: {value:.2f} CPU s")
    ratio = middle["retune --help"] / middle["a bare interpreter"]
    print(f"retune --help is {ratio:.1f} bare interpreters, goal {HELP:.0f}: {met(ratio <= HELP)}")
    again = middle["a finished run again"]
    print(f"a finished run again, goal {AGAIN} s: {again:.2f} s, {met(again <= AGAIN)}", end="; ")
    print(f"importing torch, which the strategies' files do, is {middle['import torch']:.2f} s of it")


def met(yes: bool) -> str:
    """Whether a goal is reached, in words."""
    return "met" if yes else "not met"


if __name__ == "__main__":
    main()
