"""``retune explain``: what a run shows, in plain sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retune.cli.options import AsJson


def explain(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    json: AsJson = False,
) -> None:
    """Say in plain sentences what a run shows, what it does not, and what to be careful of."""
    from rich.text import Text

    from retune.cli.console import console, print_json
    from retune.results.explain import explain

    found = explain(run)
    if json:
        print_json(found)
        return
    out = console()
    for k, (heading, lines) in enumerate(found.items()):
        out.print(Text(f"{chr(10) if k else ''}{heading}", "bold"))
        for line in lines:
            out.print(Text(line))
