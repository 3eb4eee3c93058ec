"""``retune new``: a starting point for a plugin of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Write a starting point for a strategy of your own.", no_args_is_help=True)


@app.command()
def strategy(
    name: Annotated[str, typer.Argument(help="Its name, in lower case with dashes.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it.", show_default="NAME.py")
    ] = None,
) -> None:
    """Write a strategy that works: change it, and check it as you go."""
    from rich.text import Text

    from retune.cli.console import console
    from retune.scaffold import new_strategy

    file = new_strategy(name, out)
    shown = file if file.is_absolute() or file.parts[0] == ".." else f"./{file}"
    printed = console()
    printed.print(Text(f"wrote {file}"))
    printed.print(Text(f"  retune check {shown}"), Text(f"\n  retune run --strategy {shown}"), sep="")


@app.callback()
def _kinds() -> None:
    """Write a starting point for a strategy of your own."""
