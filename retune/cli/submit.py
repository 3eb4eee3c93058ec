"""``retune submit``: finished runs as an entry of the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retune.cli.options import AsJson, BoardFolder


def submit(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Folders of runs, or folders that hold runs: several seeds of a method."
        ),
    ],
    method: Annotated[
        str | None, typer.Option(help="Name of the method.", show_default="the strategy's")
    ] = None,
    version: Annotated[str, typer.Option(help="Version of the entry; a correction is a new one.")] = "1",
    author: Annotated[list[str] | None, typer.Option(help="An author of the method; again for more.")] = None,
    paper: Annotated[str | None, typer.Option(metavar="URL", help="Link to its paper.")] = None,
    code: Annotated[str | None, typer.Option(metavar="URL", help="Link to its code.")] = None,
    note: Annotated[str | None, typer.Option(help="A line that readers should see.")] = None,
    board: BoardFolder = Path("leaderboard"),
    json: AsJson = False,
) -> None:
    """Write what the leaderboard needs of some runs: numbers and scores, no image, no label, no patient."""
    from rich.text import Text

    from retune.cli.console import bars, console, print_json
    from retune.leaderboard.records import ENOUGH, few_seeds
    from retune.leaderboard.submit import Said, submit
    from retune.metrics.table import DECIDES
    from retune.results.text import number

    said = Said(method, version, author or (), paper, code, note)
    with bars() as progress:
        written = submit(runs, said, board=board, progress=progress)
    if json:
        print_json(
            [{"folder": str(s.folder), "bits": s.bits, "existed": s.existed, "entry": s.entry.model_dump(by_alias=True)}
             for s in written]
        )  # fmt: skip
        return
    out = console()
    for one in written:
        mean, many = getattr(one.entry.metrics, DECIDES.key).mean, len(one.entry.runs)
        size = sum(file.stat().st_size for file in one.folder.iterdir()) / 1e6
        told = f"{DECIDES.heading} {number(mean)}, {many} {'seed' if many == 1 else 'seeds'}, {size:.1f} MB"
        stood = "; it stood there already" if one.existed else ""
        out.print(
            Text.assemble((one.entry.name, "bold"), f" on {one.entry.track}: {told}{stood}"), soft_wrap=True
        )
        out.print(Text(f"  {one.folder}", "dim"), soft_wrap=True)
        if many < ENOUGH:
            out.print(Text(f"  {few_seeds(many)}", "yellow"), soft_wrap=True)
        if one.silent:
            told = "says nothing of a transfer: it is not the track's, or not all seeds have it"
            out.print(Text(f"  {told}", "yellow"), soft_wrap=True)
    out.print()
    out.print(
        "It holds scores of the test images under salted digests of their names; no image, label or patient."
    )
    if any(one.entry.transfer for one in written):
        out.print("Of its transfer's test images, without names: how many pixels are outlined and found.")
    first = written[0].folder
    named = "" if board == Path("leaderboard") else f" --board {board}"
    out.print(Text(f"Next, check it: retune leaderboard verify {first}{named}", "dim"), soft_wrap=True)
    out.print(
        Text(
            "Then commit the folder and open a pull request against the leaderboard's repository; "
            "nothing is sent from here.",
            "dim",
        )
    )
