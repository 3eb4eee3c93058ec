"""How long the page of a leaderboard with very many entries takes to build, and to show from disk.

    python tests/benchmarks/bench_site.py [ENTRIES]

The first view is the index; the largest page is that of a track that holds all entries.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from leaderboard.browser import browsing
from leaderboard.made_entries import CLASS, large

from retune.leaderboard.site import build

LIMIT = 1.0
TIMES = 7
TIMING = """
const page = performance.getEntriesByType("navigation")[0];
const paint = performance.getEntriesByName("first-contentful-paint")[0];
return page.loadEventEnd > 0 && paint ? [paint.startTime / 1000, page.loadEventEnd / 1000] : null;
"""


def main() -> None:
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(f"load of this machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        large(place / "board", many)
        start, cpu = time.perf_counter(), time.process_time()
        build(place / "board", place / "site")
        wall, busy = time.perf_counter() - start, time.process_time() - cpu
        print(f"{many:,} entries built in {wall:.1f} s ({busy:.1f} s of processor time)")
        with browsing(place / "profile") as browser:
            for name in ("index.html", "entries.html", f"tracks/{CLASS}.html"):
                size = (place / "site" / name).stat().st_size / 1e3
                seen = []
                for _ in range(TIMES):
                    browser.open(place / "site" / name)
                    seen.append(browser.wait(TIMING))
                paint, load = ([times[k] for times in seen] for k in (0, 1))
                verdict = "below" if max(load) < LIMIT else "NOT BELOW"
                print(
                    f"{name}, {size:,.0f} kB: first paint {median(paint):.2f} s (at most {max(paint):.2f}), "
                    f"loaded {median(load):.2f} s (at most {max(load):.2f}), {verdict} {LIMIT:g} s"
                )


if __name__ == "__main__":
    main()
