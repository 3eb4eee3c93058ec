"""How an audit looks in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retune.cli.console import console, plain_table
from retune.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

    from retune.audit.one import Audit
    from retune.audit.several import Row
    from retune.audit.tables import Table

WIDE: Final = 100
"""Columns of a terminal that hold the widest table."""


def print_audit(found: Audit | list[Row]) -> None:
    """The verdict and the tables that fit a screen; of several runs, the table of methods."""
    from rich.text import Text

    from retune.audit.tables import of_methods, tables

    out = console()
    out.print()
    if isinstance(found, list):
        _print_table(out, of_methods(found))
        return
    for table in tables(found):
        if table.brief:
            _print_table(out, table)
    for note in found.notes:
        out.print(Text(note, "yellow"))
    out.print(Text(found.verdict, "bold"))
    out.print()


def as_json(found: Audit | list[Row]) -> Any:
    """What ``--json`` prints."""
    from retune.audit.one import plain

    return plain([vars(row) for row in found]) if isinstance(found, list) else found.document()


def _print_table(out: Console, table: Table) -> None:
    from rich.text import Text

    out.print(Text(table.title, "bold"))
    drawn, narrow = plain_table(gap=1), out.width < WIDE
    for k, head in enumerate(table.heads):
        text = k in (0, *table.wordy)
        drawn.add_column(head, justify="left" if text else "right", overflow="fold")
    for row in table.rows:
        # An interval stands below its number where a line does not hold both.
        drawn.add_row(
            *(Text(printable(cell).replace(" (", "\n(") if narrow else printable(cell)) for cell in row)
        )
    out.print(drawn)
    if table.note:
        out.print(Text(table.note, "dim"))
    out.print()
