"""``retune audit``: may this update go live?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retune.cli.options import AsJson


def audit(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN...", help="A run's folder; or several, or a folder that holds runs of one stream."
        ),
    ] = None,
    accept: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rules to hold it against; exit code 3 where one is not met."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the page, Markdown and JSON there.")
    ] = None,
    new: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a commented file of rules to start from, and stop."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Tell what updates do to whom, from stored scores: calls that turn, groups, thresholds, agreed rules."""
    from rich.text import Text

    from retune.audit import PAGE_FILE, audit, write_criteria
    from retune.audit.one import document
    from retune.cli.audit_tables import print_audit
    from retune.cli.console import bars, console, print_json
    from retune.errors import UserError

    if new is not None:
        if runs or accept or out or json:
            raise UserError("takes nothing beside it", where="--new", fix="leave the other options out")
        write_criteria(new)
        console().print(Text.assemble("Written to ", (str(new), "bold")), soft_wrap=True)
        return
    if not runs:
        raise UserError("no run is named", fix="retune audit RUN..., or retune audit --new criteria.toml")
    with bars() as progress:
        found = audit(runs, accept=accept, out=out, progress=progress)
    if json:
        print_json(document(found))
    else:
        print_audit(found)
        if out is not None:
            console().print(Text.assemble("Written to ", (str(out / PAGE_FILE), "bold")), soft_wrap=True)
    if found.fails:
        raise typer.Exit(3)
