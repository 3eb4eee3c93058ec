"""How an audit looks in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retune.cli.console import console, plain_table
from retune.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

    from retune.audit.one import Audit
    from retune.audit.several import Methods
    from retune.audit.tables import Table

WIDE: Final = 100
"""Columns of a terminal that hold the widest table."""
NAME: Final = 12
"""Of which so many, at most, are kept for the first column."""


def print_audit(found: Audit | Methods) -> None:
    """The tables that fit a screen, and of one run the verdict."""
    from rich.text import Text

    from retune.audit.one import Audit
    from retune.audit.tables import tables

    out = console()
    out.print()
    out.print(Text(found.title, "bold"))
    out.print()
    for table in tables(found):
        if table.brief:
            _print_table(out, table)
    for note in found.notes:
        out.print(Text(note, "yellow"))
    if isinstance(found, Audit):
        out.print(Text(found.verdict, "bold"))
    out.print()


def _print_table(out: Console, table: Table) -> None:
    from rich.text import Text

    out.print(Text(table.title, "bold"))
    drawn, narrow = plain_table(gap=1), out.width < WIDE
    for k, head in enumerate(table.heads):
        text = k in (0, *table.wordy)
        longest = max(len(row[k]) for row in table.rows)
        drawn.add_column(
            head,
            justify="left" if text else "right",
            overflow="fold",
            min_width=0 if k else min(longest, NAME),
        )
    for row in table.rows:
        cells = list(map(printable, row))
        for k in range(1, len(cells)):
            if narrow and k not in table.wordy:
                # An interval stands below its number, and what came of one below what it was.
                cells[k] = cells[k].replace(" (", "\n(").replace(" → ", "\n→ ")
        drawn.add_row(*map(Text, cells))
    out.print(drawn)
    if table.note:
        out.print(Text(table.note, "dim"))
    out.print()
