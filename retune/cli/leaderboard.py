"""``retune leaderboard``: verify entries, build the page, show it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retune.cli.options import AsJson, BoardFolder, Root

if TYPE_CHECKING:
    from retune.leaderboard.site import Built
    from retune.leaderboard.verify import Verdict

BOARD = Path("leaderboard")

app = typer.Typer(help="The leaderboard: verify entries, build its page, show it.", no_args_is_help=True)


@app.command()
def verify(
    entries: Annotated[
        list[Path] | None,
        typer.Argument(metavar="ENTRY...", help="Folders of entries, or TRACK/ENTRY.", show_default="all"),
    ] = None,
    root: Root = None,
    again: Annotated[
        bool, typer.Option("--rerun", help="Run each method again from its recorded settings, too.")
    ] = False,
    time_limit: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="The longest a method run again may take for one experience.",
            show_default="3600",
        ),
    ] = 3600.0,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A leaderboard whose entries must be here, unchanged: that of the base branch.",
        ),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Keep what is found for the page.")
    ] = True,
    board: BoardFolder = BOARD,
    json: AsJson = False,
) -> None:
    """Recompute every published number from the scores and from your own copy of the data."""
    from retune.cli.console import bars, print_json
    from retune.data.source import parse_roots
    from retune.leaderboard.check import check

    with bars() as progress:
        found = check(
            board,
            entries or [],
            roots=parse_roots(root, None),
            again=again,
            time_limit=time_limit,
            against=against,
            record=record,
            progress=progress,
        )
    if json:
        print_json([_document(verdict) for verdict in found])
    else:
        _print(found)
    outcomes = {verdict.outcome for verdict in found}
    if outcomes - {"holds"}:
        raise typer.Exit(2 if "refused" in outcomes else 1)


def _document(verdict: Verdict) -> dict[str, Any]:
    record = verdict.record
    return {
        "entry": verdict.name,
        "outcome": verdict.outcome,
        "tier": verdict.tier,
        "reason": verdict.reason,
        "difference": record.difference if record else None,
        "rerun_difference": record.rerun_difference if record else None,
        "remarks": record.remarks if record else [],
    }


def _print(found: list[Verdict]) -> None:
    from rich.text import Text

    from retune.cli.console import console, plain_table

    out = console()
    table = plain_table(heads=False)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    styles = {"re-run": "bold green", "recomputed": "green", "self-reported": "yellow"}
    for verdict in found:
        mark = verdict.tier or {"refused": "REFUSED", "false": "DOES NOT HOLD"}[verdict.outcome]
        told = Text(verdict.name, "bold")
        if verdict.reason:
            told.append(f"\n{verdict.reason}", "red not bold" if verdict.tier is None else "dim not bold")
        if verdict.record is not None:
            for line in [*_differences(verdict), *verdict.record.remarks]:
                told.append(f"\n{line}", "dim not bold")
        table.add_row(Text(mark, styles.get(mark, "bold red")), told)
    out.print(table)
    out.print()
    counts = [
        f"{n:,} {what}"
        for what in ("re-run", "recomputed", "self-reported")
        if (n := sum(v.tier == what for v in found))
    ]
    counts += [
        f"{n:,} {words}"
        for outcome, words in (("false", "not true"), ("refused", "refused"))
        if (n := sum(v.outcome == outcome for v in found))
    ]
    out.print(
        Text(
            f"{len(found):,} {'entry' if len(found) == 1 else 'entries'}: {', '.join(counts) or 'none'}",
            "bold",
        )
    )


def _differences(verdict: Verdict) -> list[str]:
    record = verdict.record
    assert record is not None, "asked for what is kept of an entry"
    lines = []
    if record.difference is not None:
        lines.append(f"every number follows from the scores, to {record.difference:g}")
    if record.rerun_difference is not None:
        lines.append(f"run again, every AUC is the same to {record.rerun_difference:g}")
    return lines


@app.command()
def build(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the page.")] = Path("site"),
    board: BoardFolder = BOARD,
    json: AsJson = False,
) -> None:
    """Write the leaderboard as a static page that needs no server and no network.

    What is refused is named and left out, and the page is made all the same:
    one bad submission must not take down the others. verify is what fails.
    """
    from rich.text import Text

    from retune.cli.console import bars, console, print_json
    from retune.leaderboard.site import build as write

    with bars() as progress:
        built = write(board, out, progress=progress)
    _complain_of(built)
    if json:
        counts = {"entries": built.entries, "tracks": built.tracks}
        refused = {"refused": list(built.refused), "notes": list(built.notes)}
        print_json({"folder": str(built.folder), **counts, **refused})
        return
    to = console()
    entries, tracks = (
        f"{n:,} {one if n == 1 else many}"
        for n, one, many in ((built.entries, "entry", "entries"), (built.tracks, "track", "tracks"))
    )
    left = f"; {len(built.refused):,} left out" if built.refused else ""
    to.print(f"{entries} on {tracks}{left}")
    to.print(Text.assemble("Written to ", (str(built.folder / "index.html"), "bold")), soft_wrap=True)


@app.command()
def serve(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="A page that was built.", show_default="built from --board"),
    ] = None,
    port: Annotated[int, typer.Option(help="Where to listen, on this machine only; 0 for any.")] = 8000,
    board: BoardFolder = BOARD,
) -> None:
    """Show the leaderboard on this machine; Ctrl-C ends it."""
    from tempfile import TemporaryDirectory

    from retune.cli.console import bars, say
    from retune.leaderboard.serve import serving
    from retune.leaderboard.site import build as write

    with TemporaryDirectory(prefix="retune-site-") as temporary:
        if folder is None:
            folder = Path(temporary) / "site"
            with bars() as progress:
                _complain_of(write(board, folder, progress=progress))
        with serving(folder, port) as (address, until_interrupted):
            say(f"{address}  Ctrl-C ends it.")
            try:
                until_interrupted()
            except KeyboardInterrupt:
                say("")


def _complain_of(built: Built) -> None:
    """Name on standard error what the page leaves out."""
    from retune.cli.console import say

    for line in built.refused:
        say(f"left out: {line}", err=True)
    for line in built.notes:
        say(f"not read: {line}", err=True)
