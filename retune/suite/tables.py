"""A suite's tables: JSON and CSV at full precision, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from retune.files import make_folder, write_whole
from retune.metrics.table import COMPARED, DENSE
from retune.results.compare import Estimate
from retune.results.text import inert, piped, plain
from retune.sealed import seal_json
from retune.suite.latex import latex
from retune.suite.layout import (
    FINAL,
    RANK_HEADS,
    cells_of,
    failed_lines,
    heads_of,
    notes,
    rank_lines,
    rank_rows,
    reading,
    title,
)
from retune.suite.orders import ORDER_HEADS, ORDER_READING, over_orders
from retune.suite.summary import Summary
from retune.suite.verdict import verdict

TABLE_FILE: Final = "table.json"
NO_RUNS: Final = "No run is finished."
PARTS: Final = ("mean", "sd", "n", "low", "high")
AGAINST: Final = (*PARTS, "detectable")


def write_tables(summary: Summary, out: Path) -> None:
    """Write ``table.json``, ``table.csv``, ``table.md`` and ``table.tex``; the same runs give the same bytes.

    Raises:
        UserError: If the folder cannot be made or written.
        StorageError: If the disk is full.
    """
    make_folder(out)
    write_whole(out / TABLE_FILE, seal_json(summary.model_dump(by_alias=True)))
    for name, text in (
        ("table.csv", comma_separated(summary)),
        ("table.md", markdown(summary)),
        ("table.tex", latex(summary)),
    ):
        write_whole(out / name, text.encode())


def comma_separated(summary: Summary) -> str:
    """One line per method and stream, at full precision; what is undefined is left empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    where = ("scenario", "data", "synthetic", "backbone", "contaminated", "order")
    cost = ("trained_parameters", "fit_seconds", "stored_images", "stored_features", "stored_bytes")
    beside = {key for setting in summary.settings for row in setting.rows for key in row.metrics}
    keys = [metric.key for metric in COMPARED] + [metric.key for metric in DENSE if metric.key in beside]
    heads = [f"{key}_{part}" for key in (*keys, "share_of_the_way") for part in PARTS]
    own = list(
        dict.fromkeys(name for setting in summary.settings for row in setting.rows for name in row.own)
    )
    heads += [f"own.{name}_{part}" for name in map(inert, own) for part in PARTS]
    heads += [f"{key}_to_best_{part}" for key in keys for part in AGAINST]
    writer.writerow([*where, "strategy", "role", "seeds", *heads, *cost, "mean_rank"])
    ranks = {method.strategy: method.rank for method in summary.ranks.methods}
    for setting in summary.settings:
        for row in setting.rows:
            values = [_values(one, PARTS) for one in (*(row.metrics.get(key) for key in keys), row.share)]
            values += [_values(row.own.get(name), PARTS) for name in own]
            values += [_values(row.to_best.get(key), AGAINST) for key in keys]
            writer.writerow(
                [
                    *(inert(getattr(setting, name)) for name in where),
                    inert(row.strategy),
                    row.role,
                    " ".join(map(str, row.seeds)),
                    *(value for several in values for value in several),
                    *(getattr(row, name) for name in cost),
                    "" if row.bound else ranks.get(row.strategy, ""),
                ]
            )
    return file.getvalue()


def markdown(summary: Summary) -> str:
    """The tables as GitHub shows them; the best method and all that are tied with it are bold."""
    lines: list[str] = []
    for setting in summary.settings:
        rows = [[plain(str(cell)) for cell in cells_of(row, setting)] for row in setting.rows]
        for row, texts in zip(setting.rows, rows, strict=True):
            if row.role in ("best", "tied"):
                texts[FINAL] = f"**{texts[FINAL]}**"
        lines += [f"## {plain(title(setting))}", ""]
        lines += [text for line in setting.cautions for text in (plain(line), "")]
        lines += [plain(verdict(setting)), ""]
        lines += [*piped(heads_of(setting), rows), ""]
        lines += [f"- {plain(line)}" for line in notes(setting)] + [""]
    for table in over_orders(summary.settings):
        rows = [list(map(plain, row)) for row in table.rows]
        lines += [f"## {plain(table.title)}", "", *piped(ORDER_HEADS, rows), "", f"- {ORDER_READING}", ""]
    if not summary.settings:
        lines += [NO_RUNS, ""]
    lines += [text for line in failed_lines(summary) for text in (plain(line), "")]
    lines += ["## How to read it", "", *(f"- {plain(line)}" for line in reading(summary.bootstrap)), ""]
    lines += ["## Ranks over streams", ""]
    ranked = [[plain(text) for text in row] for row in rank_rows(summary.ranks)]
    if ranked:
        lines += [*piped(RANK_HEADS, ranked), ""]
    lines += [f"- {plain(line)}" for line in rank_lines(summary.ranks)]
    return "\n".join(lines) + "\n"


def _values(estimate: Estimate | None, parts: Sequence[str]) -> list[Any]:
    found = [getattr(estimate, part, None) for part in parts]
    return ["" if value is None else value for value in found]
