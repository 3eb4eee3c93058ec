"""``retune new``: a starting point for a plugin of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

app = typer.Typer(help="Write a starting point for a plugin of your own.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Its name, in lower case with dashes.")]
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write it.", show_default="NAME.py")]
NEXT: Final = {
    "strategy": ("retune check {}", "retune run --strategy {}"),
    "scenario": ("retune check scenario {}", "retune run --scenario {}"),
    "dataset": ("retune check dataset {} --root DIR", "retune run --data {} --root DIR --steps 2"),
    "backbone": ("retune check backbone {}", "retune run --backbone {}"),
    "metric": ("retune check metric {}", "retune run --metric {}"),
}
"""What to do with the file."""


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

    _told("strategy", new_strategy(name, out, memory=memory))


@app.command()
def scenario(name: Name, out: Out = None) -> None:
    """Write a scenario that works: change it, and check it as you go."""
    from retune.scaffold import new_scenario

    _told("scenario", new_scenario(name, out))


@app.command()
def dataset(name: Name, out: Out = None) -> None:
    """Write a reader of a table of radiographs: change it, and check it on your files as you go."""
    from retune.scaffold import new_dataset

    _told("dataset", new_dataset(name, out))


@app.command()
def backbone(name: Name, out: Out = None) -> None:
    """Write a backbone with an image tower and a text tower: put yours in, and check it as you go."""
    from retune.scaffold import new_backbone

    _told("backbone", new_backbone(name, out))


@app.command()
def metric(name: Name, out: Out = None) -> None:
    """Write a metric of your own, to stand beside the benchmark's: change it, and check it as you go."""
    from retune.scaffold import new_metric

    _told("metric", new_metric(name, out))


def _told(kind: str, file: Path) -> None:
    from rich.text import Text

    from retune.cli.console import console

    shown = file if file.is_absolute() or file.parts[0] == ".." else f"./{file}"
    printed = console()
    printed.print(Text(f"wrote {file}"), soft_wrap=True)
    for command in NEXT[kind]:
        printed.print(Text(f"  {command.format(shown)}"), soft_wrap=True)
