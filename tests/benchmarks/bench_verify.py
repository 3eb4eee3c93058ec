"""How long verifying every entry of a leaderboard takes: recomputed, none run again, nothing kept.

    python tests/benchmarks/bench_verify.py [BOARD]

Prints what was verified and the seconds beside the limit; the exit code is 1 above it, or where an entry does not hold.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

from retune.leaderboard.board import DEFAULT, Board
from retune.leaderboard.check import check
from retune.leaderboard.intake import read

LIMIT = 60.0
"""Seconds."""


def main(board: Path) -> int:
    """Verify all entries of a board."""
    begun = time.perf_counter()
    verdicts = check(board)
    seconds = time.perf_counter() - begun
    place = Board(board)
    held = [v.name.split("/") for v in verdicts if v.outcome == "holds"]
    runs = sum(len(read(place.folder(*names), scores=False).entry.runs) for names in held)
    tiers = ", ".join(f"{n} {tier}" for tier, n in Counter(v.tier or v.outcome for v in verdicts).items())
    print(f"{len(verdicts):,} entries ({tiers}), {runs:,} runs: {seconds:.1f} s of {LIMIT:.0f} s")
    for verdict in verdicts:
        if verdict.outcome != "holds":
            print(f"  {verdict.reason}")
    return int(seconds > LIMIT or len(held) < len(verdicts))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT))
