"""The second strategy, scenario and seed on the same data encode no image: seconds and counts.

    python tests/benchmarks/bench_reuse.py [--images 4000]

Runs on the synthetic phantom data with the default backbone, from an empty feature store.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from typing import Any

import retune

LATER: dict[str, dict[str, Any]] = {
    "another strategy": {"strategy": "linear-probe"},
    "another scenario": {"scenario": "data-incremental"},
    "another seed": {"seed": 1},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=4000)
    settings = {"data.images": parser.parse_args().images}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RETUNE_CACHE"] = f"{folder}/cache"
        first = 0.0
        for k, (what, options) in enumerate({"the first run": {}, **LATER}.items()):
            begun = time.perf_counter()
            result = retune.run(settings=settings, replicates=100, out=f"{folder}/{k}", **options)
            seconds = time.perf_counter() - begun
            first = first or seconds
            print(
                f"{what}: {result.cost.images_encoded:,} images encoded, {seconds:.1f} s, "
                f"{first / seconds:.1f} times as fast as the first"
            )


if __name__ == "__main__":
    main()
