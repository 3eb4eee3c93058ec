"""``retune report``: one page, and figures, about many runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retune.cli.options import Metrics


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, or folders that hold runs.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("report"),
    metric: Metrics = None,
    figures: Annotated[
        bool, typer.Option("--figures", help="Write the figures as SVG and PNG files too.")
    ] = False,
) -> None:
    """Write one self-contained HTML page about runs, and their figures for papers."""
    from rich.text import Text

    from retune.cli.console import bars, console
    from retune.report import FIGURES, PAGE_FILE, write_report

    with bars() as progress:
        found = write_report(runs, out, figures=figures, metrics=metric or (), progress=progress)
    runs_told, streams = len(found.results), sum(len(section.streams) for section in found.sections)
    to = console()
    to.print(
        f"{runs_told:,} {'run' if runs_told == 1 else 'runs'} on {streams} {'stream' if streams == 1 else 'streams'}"
    )
    for note in found.notes:
        to.print(Text(note, "yellow"))
    to.print(Text.assemble("Written to ", (str(out / PAGE_FILE), "bold")), soft_wrap=True)
    if figures:
        to.print(Text(f"Figures in {out / FIGURES}", "dim"), soft_wrap=True)
