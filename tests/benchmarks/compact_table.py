"""One row for every method of a suite, one column for every scenario, as Markdown.

    python tests/benchmarks/compact_table.py runs/everything/table.json --fit runs/timing/table.json

Fit seconds come from a suite of its own, run where nothing else was running.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from retune.metrics.table import BY_KEY
from retune.results.compare import Estimate
from retune.results.text import number
from retune.suite.summary import Row, Setting, Summary

MARKS = {"best": "**", "tied": "**"}
EVERY = ("final_auc", "forgetting")
"""Metrics of all scenarios."""
FIRST = ("gain", "learning", "final_auc_head", "final_auc_medium", "final_auc_tail")
"""Metrics of the first scenario alone; those that no method has are left out."""


def cell(estimate: Estimate | None, mark: str = "") -> str:
    """Mean and standard deviation over seeds, between marks."""
    if estimate is None or estimate.mean is None:
        return "-"
    spread = f" ± {number(estimate.sd)}" if estimate.sd is not None else ""
    return f"{mark}{number(estimate.mean)}{mark}{spread}"


def kept(rows: list[Row]) -> str:
    """The most that is stored of past patients on any stream."""
    counts = {
        "images": max(row.stored_images for row in rows),
        "features": max(row.stored_features for row in rows),
    }
    return ", ".join(f"{n:,} {kind}" for kind, n in counts.items() if n) or "-"


def columns(settings: list[Setting]) -> list[tuple[str, Setting]]:
    """Each column's metric and scenario."""
    first = [m for m in FIRST if any(r.metrics[m].mean is not None for r in settings[0].rows)]
    return [(m, s) for m in EVERY for s in settings] + [(m, settings[0]) for m in first]


def line(name: str, settings: list[Setting], seconds: dict[str, float]) -> str:
    """A method's row."""
    rows = {s.name: next((row for row in s.rows if row.strategy == name), None) for s in settings}
    found = [row for row in rows.values() if row is not None]
    cells = [
        cell(row.metrics.get(metric), MARKS.get(row.role, "") if metric == "final_auc" else "")
        if (row := rows[setting.name])
        else "-"
        for metric, setting in columns(settings)
    ]
    cells += [f"{max(row.trained_parameters for row in found):,}", kept(found)]
    if seconds:
        cells.append(f"{seconds[name]:.1f} s" if name in seconds else "-")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table, best mean final AUC first, upper bounds last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--fit", type=Path)
    given = parser.parse_args()
    settings = Summary.read(given.table).settings
    timed = Summary.read(given.fit).settings if given.fit else []
    seconds = {row.strategy: row.fit_seconds for setting in timed for row in setting.rows}
    heads = [
        f"{BY_KEY[m].heading.removesuffix(' AUC')}, {s.scenario.removesuffix('-incremental')}"
        for m, s in columns(settings)
    ]
    heads += ["trained", "kept", *(["fit"] if seconds else [])]
    print(f"| strategy | {' | '.join(heads)} |")
    print("|---" * (len(heads) + 1) + "|")
    rows = [row for setting in settings for row in setting.rows]
    means = {
        name: (
            any(r.role == "upper bound" for r in rows if r.strategy == name),
            -sum(r.metrics["final_auc"].mean or 0 for r in rows if r.strategy == name),
        )
        for name in {row.strategy for row in rows}
    }
    for name in sorted(means, key=lambda n: (*means[n], n)):
        print(line(name, settings, seconds))


if __name__ == "__main__":
    main()
