"""A suite's tables in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retune.suite.layout import (
    FINAL,
    RANK_HEADS,
    Cell,
    cells_of,
    failed_lines,
    heads_of,
    notes,
    rank_lines,
    rank_rows,
    reading,
    title,
)
from retune.suite.orders import ORDER_HEADS, ORDER_READING, OrderTable, over_orders
from retune.suite.summary import Row, Summary
from retune.suite.tables import NO_RUNS
from retune.suite.verdict import verdict

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod


def print_tables(summary: Summary, console: Console) -> None:
    """Print every table, intervals below their values; one that is too wide is parted by columns."""
    from rich.text import Text

    if not summary.settings:
        console.print(NO_RUNS)
        return
    for setting in summary.settings:
        console.print(Text(title(setting), "bold"))
        for line in setting.cautions:
            console.print(Text(line, "yellow"))
        console.print(Text(verdict(setting)))
        heads = heads_of(setting)
        rows = [cells_of(row, setting) for row in setting.rows]
        styles = [_style(row) for row in setting.rows]
        for columns in _packed(heads, rows, console.width):
            _print_columns(console, columns, heads, rows, styles)
        for line in notes(setting):
            console.print(Text(line))
        console.print()
    for orders in over_orders(summary.settings):
        console.print(Text(orders.title, "bold"))
        _print_orders(console, orders)
        console.print(Text(ORDER_READING, "dim"))
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


def _print_orders(console: Console, found: OrderTable) -> None:
    from rich.cells import cell_len
    from rich.text import Text

    from retune.cli.console import plain_table

    columns = [[head, *cells] for head, *cells in zip(ORDER_HEADS, *found.rows, strict=True)]
    longest = [max(cell_len(word) for text in column for word in text.split()) for column in columns]
    fits = sum(longest) + 2 * (len(ORDER_HEADS) - 1) <= console.width
    # Words are never broken: what is too wide is parted by metrics.
    blocks = [range(len(ORDER_HEADS))] if fits else [(0, 1, 2, 3, 4), (0, 1, 5, 6, 7)]
    for block in blocks:
        table = plain_table()
        for c in block:
            head = Text(ORDER_HEADS[c].replace(" ", "\n"))
            table.add_column(head, justify="right" if c else "left", no_wrap=c > 0, overflow="fold")
        for row in found.rows:
            table.add_row(*(Text(row[c]) for c in block))
        console.print(table)
        console.print()


def _style(row: Row) -> str:
    return {"best": "bold", "tied": "bold", "upper bound": "dim", "floor": "dim"}.get(row.role, "")


def _packed(heads: Sequence[str], rows: Sequence[Sequence[Cell]], width: int) -> list[list[int]]:
    """Columns parted into blocks that fit a width; each block begins with the method and its seeds."""
    widths = [
        max([len(head), *(len(part) for cell in column for part in (cell.value, cell.interval))]) + 2
        for head, *column in zip(heads, *rows, strict=True)
    ]
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
    console: Console,
    columns: Sequence[int],
    heads: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    styles: Sequence[str],
) -> None:
    from rich.text import Text

    from retune.cli.console import plain_table

    def shown(cell: Cell, style: str) -> Text:
        return Text.assemble((cell.value, style), (f"\n{cell.interval}" if cell.interval else "", "dim"))

    table = plain_table()
    for c in columns:
        justify: JustifyMethod = "right" if heads[c] in ("n", "trained", "fit") else "left"
        # A method's name may be folded, numbers never.
        table.add_column(heads[c], justify=justify, no_wrap=c > 0, overflow="fold")
    for row, style in zip(rows, styles, strict=True):
        table.add_row(*(shown(row[c], style if c in (0, FINAL) else "") for c in columns))
    console.print(table)
    console.print()
