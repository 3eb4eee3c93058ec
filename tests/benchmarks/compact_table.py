"""One row for every method of a suite, one column for every scenario, as Markdown.

python tests/benchmarks/compact_table.py runs/everything/table.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from retune.suite.compare import Estimate
from retune.suite.summary import Row, Setting, Summary

MARKS = {"best": "**", "tied": "**"}


def number(estimate: Estimate | None, mark: str = "") -> str:
    """Mean and standard deviation over seeds, between marks."""
    if estimate is None or estimate.mean is None:
        return "-"
    spread = f" ± {estimate.sd:.3f}" if estimate.sd is not None else ""
    return f"{mark}{estimate.mean:.3f}{mark}{spread}".replace("0.", ".")


def kept(row: Row) -> str:
    """What is stored of past patients."""
    parts = [(row.stored_images, "images"), (row.stored_features, "features")]
    return ", ".join(f"{n:,} {kind}" for n, kind in parts if n) or "-"


def line(name: str, settings: list[Setting]) -> str:
    """A method's row."""
    rows = [next((row for row in setting.rows if row.strategy == name), None) for setting in settings]
    found = [row for row in rows if row is not None]
    cells = [
        number(row.metrics.get(metric), MARKS.get(row.role, "") if metric == "final_auc" else "")
        if row
        else "-"
        for metric in ("final_auc", "average_auc", "forgetting")
        for row in rows
    ]
    cells += [f"{max(row.trained_parameters for row in found):,}", max(map(kept, found), key=len)]
    cells.append(f"{max(row.fit_seconds for row in found):.1f} s")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table, best mean final AUC first, upper bounds last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    settings = Summary.read(parser.parse_args().table).settings
    heads = [
        f"{m}, {s.scenario.removesuffix('-incremental')}"
        for m in ("final", "average", "forgetting")
        for s in settings
    ]
    print(f"| strategy | {' | '.join(heads)} | trained | kept | fit |")
    print("|---" * (len(heads) + 4) + "|")
    rows = [row for setting in settings for row in setting.rows]
    means = {
        name: (
            any(r.role == "upper bound" for r in rows if r.strategy == name),
            -sum(r.metrics["final_auc"].mean or 0 for r in rows if r.strategy == name),
        )
        for name in {row.strategy for row in rows}
    }
    for name in sorted(means, key=lambda n: (*means[n], n)):
        print(line(name, settings))


if __name__ == "__main__":
    main()
