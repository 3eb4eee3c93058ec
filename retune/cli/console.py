"""What every subcommand prints with."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table


def console() -> Console:
    """Standard output, at the terminal's width; 100 columns where there is no terminal and no COLUMNS."""
    plain = Console(highlight=False, soft_wrap=False)
    return plain if plain.is_terminal or "COLUMNS" in plain._environ else Console(highlight=False, width=100)


def plain_table(*, heads: bool = True, gap: int = 2) -> Table:
    """A table without lines.

    Args:
        heads: Whether columns have heads.
        gap: Spaces between columns.
    """
    return Table(box=None, padding=(0, 0, 0, gap), pad_edge=False, show_header=heads, header_style="bold")


def print_json(document: Any) -> None:
    """Print a document as JSON on standard output."""
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def bars(prefix: str = "") -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars on standard error, one per stage; a line per stage where that is no terminal."""
    err = Console(stderr=True, highlight=False)
    tasks: dict[str, TaskID] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(prefix + stage, total=total)
                if not err.is_terminal:
                    err.print(f"{prefix}{stage} ...", markup=False)
            progress.update(tasks[stage], completed=done)

        yield tell
