"""A suite's tables: JSON and CSV at full precision, Markdown, LaTeX, and in a terminal."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from retune.files import make_folder, write_whole
from retune.metrics.table import COMPARED
from retune.results.compare import Estimate
from retune.suite.latex import latex
from retune.suite.layout import (
    FINAL,
    HEADS,
    RANK_HEADS,
    cells_of,
    failed_lines,
    notes,
    rank_lines,
    rank_rows,
    reading,
    title,
)
from retune.suite.summary import Row, Summary, summarise

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod

    from retune.progress import Progress
    from retune.suite.cells import Finished

TABLE_FILE: Final = "table.json"
NO_RUNS: Final = "No run is finished."
PARTS: Final = ("mean", "sd", "n", "low", "high")


def write_tables(
    cells: Sequence[Finished] | Summary,
    out: Path,
    *,
    failed: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Write ``table.json``, ``table.csv``, ``table.md`` and ``table.tex``.

    The same runs give the same bytes, whatever their order.

    Args:
        cells: Finished runs; or what `summarise` made of them.
        out: Folder; made if it is not there.
        failed: By method, how many runs gave no result; that is said below the tables.
        progress: Called with a stage, what is done of it and what there is to do.

    Returns:
        The summary, which `print_tables` takes too.

    Raises:
        UserError: If runs of one stream cannot be compared, or ``out`` cannot be written.
        StorageError: If the disk is full.
    """
    summary = cells if isinstance(cells, Summary) else summarise(cells, failed=failed, progress=progress)
    document = json.dumps(summary.model_dump(by_alias=True), indent=1, ensure_ascii=False, allow_nan=False)
    make_folder(out)
    for name, text in (
        (TABLE_FILE, document + "\n"),
        ("table.csv", comma_separated(summary)),
        ("table.md", markdown(summary)),
        ("table.tex", latex(summary)),
    ):
        write_whole(out / name, text.encode())
    return summary


def print_tables(cells: Sequence[Finished] | Summary, console: Console) -> None:
    """Print every table; one that is too wide is parted by columns.

    Args:
        cells: Finished runs; or what `summarise` made of them.
        console: Where to.
    """
    from rich.text import Text

    summary = cells if isinstance(cells, Summary) else summarise(cells)
    if not summary.settings:
        console.print(NO_RUNS)
        return
    for setting in summary.settings:
        console.print(Text(title(setting), "bold"))
        rows = [[str(cell) for cell in cells_of(row)] for row in setting.rows]
        styles = [_style(row) for row in setting.rows]
        for columns in _packed([HEADS, *rows], console.width):
            _print_columns(console, columns, rows, styles)
        for line in notes(setting):
            console.print(Text(line, "yellow" if line in setting.cautions else ""))
        console.print()
    for line in failed_lines(summary):
        console.print(Text(line, "bold red"))
    for line in reading(summary.bootstrap):
        console.print(Text(line, "dim"))
    console.print()
    console.print(Text("Ranks over streams", "bold"))
    ranked = rank_rows(summary.ranks)
    if ranked:
        from retune.cli.console import plain_table

        table = plain_table()
        for head in RANK_HEADS:
            table.add_column(head, justify="right" if head == "mean rank" else "left", overflow="fold")
        for row in ranked:
            table.add_row(*map(Text, row))
        console.print(table)
    for line in rank_lines(summary.ranks):
        console.print(Text(line))


def comma_separated(summary: Summary) -> str:
    """One line per method and stream, at full precision; what is undefined is left empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    where = ("scenario", "data", "synthetic", "backbone", "contaminated", "order")
    cost = ("trained_parameters", "fit_seconds", "stored_images", "stored_features", "stored_bytes")
    keys = [metric.key for metric in COMPARED]
    names = [*keys, *(f"{key}_to_best" for key in keys)]
    writer.writerow(
        [*where, "strategy", "role", "seeds", *(f"{n}_{p}" for n in names for p in PARTS), *cost, "mean_rank"]
    )
    ranks = {method.strategy: method.rank for method in summary.ranks.methods}
    for setting in summary.settings:
        for row in setting.rows:
            estimates = [row.metrics[key] for key in keys] + [row.to_best.get(key) for key in keys]
            writer.writerow(
                [
                    *(getattr(setting, name) for name in where),
                    row.strategy,
                    row.role,
                    " ".join(map(str, row.seeds)),
                    *(value for estimate in estimates for value in _five(estimate)),
                    *(getattr(row, name) for name in cost),
                    "" if row.role == "upper bound" else ranks.get(row.strategy, ""),
                ]
            )
    return file.getvalue()


def markdown(summary: Summary) -> str:
    """The tables as GitHub shows them; the best method and all that are tied with it are bold."""
    lines: list[str] = []
    for setting in summary.settings:
        rows = [[_plain(str(cell)) for cell in cells_of(row)] for row in setting.rows]
        for row, texts in zip(setting.rows, rows, strict=True):
            if row.role in ("best", "tied"):
                texts[FINAL] = f"**{texts[FINAL]}**"
        lines += [f"## {_plain(title(setting))}", "", *_piped(HEADS, rows), ""]
        lines += [f"- {_plain(line)}" for line in notes(setting)] + [""]
    if not summary.settings:
        lines += [NO_RUNS, ""]
    lines += [text for line in failed_lines(summary) for text in (_plain(line), "")]
    lines += ["## How to read it", "", *(f"- {_plain(line)}" for line in reading(summary.bootstrap)), ""]
    lines += ["## Ranks over streams", ""]
    ranked = [[_plain(text) for text in row] for row in rank_rows(summary.ranks)]
    if ranked:
        lines += [*_piped(RANK_HEADS, ranked), ""]
    lines += [f"- {_plain(line)}" for line in rank_lines(summary.ranks)]
    return "\n".join(lines) + "\n"


def _five(estimate: Estimate | None) -> list[Any]:
    found = [getattr(estimate, part, None) for part in PARTS]
    return ["" if value is None else value for value in found]


def _piped(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


def _plain(text: str) -> str:
    """Text in which Markdown sees no mark-up."""
    return re.sub(r"([\\`*_|<\[])", r"\\\1", text)


def _style(row: Row) -> str:
    return {"best": "bold", "tied": "bold", "upper bound": "dim"}.get(row.role, "")


def _packed(table: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Columns parted into blocks that fit a width; each block begins with the method and its seeds."""
    widths = [max(map(len, column)) + 2 for column in zip(*table, strict=True)]
    widths[0] = min(widths[0], width // 3)  # a long name is folded
    fixed = [0, 1, 2]
    blocks: list[list[int]] = [[]]
    for column in range(len(fixed), len(widths)):
        taken = sum(widths[c] for c in [*fixed, *blocks[-1], column]) - 2
        if blocks[-1] and taken > width:
            blocks.append([])
        blocks[-1].append(column)
    # Which method is best is said of the final AUC alone.
    return [[*(fixed if FINAL in block else fixed[:2]), *block] for block in blocks]


def _print_columns(
    console: Console, columns: Sequence[int], rows: Sequence[Sequence[str]], styles: Sequence[str]
) -> None:
    from rich.text import Text

    from retune.cli.console import plain_table

    table = plain_table()
    for c in columns:
        justify: JustifyMethod = "right" if HEADS[c] in ("n", "trained", "fit") else "left"
        # A method's name may be folded, numbers never.
        table.add_column(HEADS[c], justify=justify, no_wrap=c > 0, overflow="fold")
    for row, style in zip(rows, styles, strict=True):
        table.add_row(*(Text(row[c], style if c in (0, FINAL) else "") for c in columns))
    console.print(table)
    console.print()
