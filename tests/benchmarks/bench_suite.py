"""What a suite costs beside learning: CPU seconds of the whole command against those of fitting and scoring.

    python tests/benchmarks/bench_suite.py [--seeds 3] [--strategies zero-shot,ridge]

Six cheap methods on three scenarios of the synthetic phantom data, one run at a time; what the images need was encoded
before, by a run of each scenario. Then the same command again, when all is done. CPU seconds count the command
and the process that it starts. Goals: at most 1.3 times fit and score; 90 runs a CPU minute; 5 s when issued again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

STRATEGIES = ("zero-shot", "nearest-class-mean", "ridge", "ranpac", "tip-adapter", "linear-probe")
SCENARIOS = ("class-incremental", "label-incremental", "data-incremental")
RATIO, PER_MINUTE, AGAIN = 1.3, 90.0, 5.0
# A result's seconds are wall time, which busy neighbours lengthen: here they are made CPU seconds in every process.
SITE = "import time\ntime.perf_counter = time.process_time\n"


def cpu_seconds(command: list[str]) -> float:
    """User and system time of a process and what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def lines(strategies: tuple[str, ...] = STRATEGIES, seeds: int = 3) -> Iterator[str]:
    """Measure, a line for each goal."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(SITE)
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
        )

        def suite(out: str, strategies: tuple[str, ...], seeds: int) -> list[str]:
            words = [sys.executable, "-m", "retune", "suite", "--device", "cpu", "--jobs", "1"]
            words += ["--seeds", str(seeds), "--out", str(folder / out)]
            words += [word for one in strategies for word in ("--strategy", one)]
            return words + [word for one in SCENARIOS for word in ("--scenario", one)]

        cpu_seconds(suite("first", strategies[:1], 1))
        whole = cpu_seconds(suite("suite", strategies, seeds))
        again = cpu_seconds(suite("suite", strategies, seeds))
        costs = [json.loads(f.read_text())["cost"] for f in folder.glob("suite/runs/**/result.json")]
    learning = sum(cost["fit_seconds"] + cost["score_seconds"] for cost in costs)
    runs = len(costs)
    yield (
        f"a suite of {runs} cheap runs: {whole:.1f} CPU s, {whole / learning:.2f} times fit and score "
        f"({learning:.1f} s); goal {RATIO}: {_met(whole / learning <= RATIO)}"
    )
    rate = 60 * runs / whole
    yield f"runs a CPU minute: {rate:.0f}; goal {PER_MINUTE:.0f}: {_met(rate >= PER_MINUTE)}"
    yield f"issued again: {again:.1f} CPU s; goal {AGAIN:.0f}: {_met(again <= AGAIN)}"


def _met(goal: bool) -> str:
    return "met" if goal else "not met"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="names with commas between")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    for line in lines(tuple(given.strategies.split(",")), given.seeds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
