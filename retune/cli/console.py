"""What every subcommand prints with.

Names of labels, files and settings come from files that anyone may have made: all that is printed goes through here,
and what would move the cursor, ring, or turn a line around is shown as U+FFFD, in JSON as its code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table

from retune.errors import printable


class _Clean(Console):
    """Shows text as it stands: brackets are brackets, and no character is a command."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, stderr=stderr, width=width)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=_clean(segment.text))


class _CleanTable(Table):
    """A table whose cells are a line each, clean before they are measured."""

    def add_row(self, *cells: RenderableType | None, **more: Any) -> None:
        super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **more)


def _clean(text: str) -> str:
    return text if text.isprintable() else "\n".join(map(printable, text.split("\n")))


def console(*, stderr: bool = False) -> Console:
    """Standard output, at the terminal's width; 100 columns where there is no terminal and no COLUMNS.

    Args:
        stderr: Standard error in its place.
    """
    plain = _Clean(stderr=stderr)
    at_width = stderr or plain.is_terminal or "COLUMNS" in plain._environ
    return plain if at_width else _Clean(width=100)


def say(line: str, *, err: bool = False) -> None:
    """Print a line as it is, however wide.

    Args:
        line: The text.
        err: Whether on standard error.
    """
    print(printable(line), file=sys.stderr if err else sys.stdout, flush=True)


def plain_table(*, heads: bool = True, gap: int = 2) -> Table:
    """A table without lines.

    Args:
        heads: Whether columns have heads.
        gap: Spaces between columns.
    """
    return _CleanTable(
        box=None, padding=(0, 0, 0, gap), pad_edge=False, show_header=heads, header_style="bold"
    )


def print_json(document: Any) -> None:
    """Print a document as JSON on standard output."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text) + "\n")


@contextmanager
def bars(prefix: str = "") -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars on standard error, one per stage; a line per stage where that is no terminal."""
    err = console(stderr=True)
    tasks: dict[str, TaskID] = {}
    columns = (
        SpinnerColumn("line"),  # Something moves while a model is being read, too.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:

        def tell(stage: str, done: int, total: int) -> None:
            name = stage.partition(" (")[0]
            if name not in tasks:
                tasks[name] = progress.add_task(prefix + name, total=total)
                if not err.is_terminal:
                    err.print(f"{prefix}{name} ...")
            progress.update(tasks[name], completed=done, total=total, description=prefix + stage)

        yield tell
