"""``retune new``: a starting point for a plugin of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Write a starting point for a strategy, a scenario or a data set of your own.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="Its name, in lower case with dashes.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write it.", show_default="NAME.py")]


@app.command()
def strategy(
    name: Name,
    out: Out = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="One that keeps samples of past patients.")
    ] = False,
) -> None:
    """Write a strategy that works: change it, and check it as you go."""
    from retune.scaffold import new_strategy

    _told(new_strategy(name, out, memory=memory), "retune check {}", "retune run --strategy {}")


@app.command()
def scenario(name: Name, out: Out = None) -> None:
    """Write a scenario that works: change it, and check it as you go."""
    from retune.scaffold import new_scenario

    _told(new_scenario(name, out), "retune check scenario {}", "retune run --scenario {}")


@app.command()
def dataset(name: Name, out: Out = None) -> None:
    """Write a reader of a table of radiographs: change it, and check it on your files as you go."""
    from retune.scaffold import new_dataset

    _told(
        new_dataset(name, out),
        "retune check dataset {} --root DIR",
        "retune run --data {} --root DIR --steps 2",
    )


def _told(file: Path, *commands: str) -> None:
    from rich.text import Text

    from retune.cli.console import console

    shown = file if file.is_absolute() or file.parts[0] == ".." else f"./{file}"
    printed = console()
    printed.print(Text(f"wrote {file}"))
    for command in commands:
        printed.print(Text(f"  {command.format(shown)}"), soft_wrap=True)
