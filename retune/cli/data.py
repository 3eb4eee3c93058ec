"""``retune data``: what to do with a data set before a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retune.cli.options import AsJson

if TYPE_CHECKING:
    from rich.table import Table

    from retune.data.check import CopyCheck

app = typer.Typer(help="Check a copy of a data set.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Check a copy of a data set."""


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(help="A data set from 'retune list', or a Python file.")],
    root: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the data set's files.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the data set: views=PA."),
    ] = None,
    decode: Annotated[
        str, typer.Option(metavar="N", help="How many pictures to decode on trial; 'all' for each.")
    ] = "100",
    json: AsJson = False,
) -> None:
    """Count what a copy holds, look for every picture and decode some. Exit code 1 if it is not complete."""
    from retune.cli.console import bars, print_json
    from retune.data.check import check as look
    from retune.errors import BadSetting
    from retune.settings import parse_assignments

    if decode != "all" and not (decode.isascii() and decode.isdigit()):
        raise BadSetting(f"'{decode}' is not a number", where="--decode", fix="give a number from 0, or all")
    given = {key.removeprefix("data."): value for key, value in parse_assignments(settings or []).items()}
    with bars() as progress:
        found = look(name, root, given, decode=None if decode == "all" else int(decode), progress=progress)
    if json:
        from dataclasses import asdict

        print_json({**asdict(found), "complete": found.complete, "problems": found.problems})
    else:
        print_check(found)
    if not found.complete:
        raise typer.Exit(1)


def print_check(found: CopyCheck) -> None:
    """Counts, beside the published ones where there are any; what is wrong; the verdict."""
    from rich.text import Text

    from retune.cli.console import console

    out = console()
    out.print()
    title = Text(found.dataset, "bold")
    settings = ", ".join(
        f"{key}={value}" for key, value in found.settings.items() if key in ("views", "split")
    )
    title.append(" (synthetic)" if found.synthetic else "", "not bold")
    title.append(f", {settings}" if settings else "", "not bold")
    for part in (title, None, _counts(found), None, _splits(found), None, _labels(found), None):
        out.print(part if part is not None else "")
    for note in found.notes:
        out.print(Text(note, "yellow"))
    for reason, count in found.dropped.items():
        out.print(Text(f"{count:,} {'image' if count == 1 else 'images'} left out: {reason}", "yellow"))
    if found.missing:
        more = ", ..." if found.missing > len(found.missing_names) else ""
        out.print(Text(f"Missing: {', '.join(found.missing_names)}{more}", "yellow"))
    for message in found.damaged_messages:
        out.print(Text(f"Damaged: {message}", "yellow"), soft_wrap=True)
    if found.damaged > len(found.damaged_messages):
        out.print(Text(f"Damaged: {found.damaged - len(found.damaged_messages):,} more", "yellow"))
    for message in found.contradictory_messages:
        out.print(Text(f"Contradictory: {message}", "yellow"), soft_wrap=True)
    if found.contradictory > len(found.contradictory_messages):
        more_odd = found.contradictory - len(found.contradictory_messages)
        out.print(Text(f"Contradictory: {more_odd:,} more", "yellow"))
    out.print(_verdict(found))


def _counts(found: CopyCheck) -> Table:
    from rich.text import Text

    from retune.cli.console import plain_table

    table = plain_table()
    table.add_column("", no_wrap=True)
    for head in ("here", "published") if found.images_published else ("here",):
        table.add_column(head, justify="right", no_wrap=True)
    # A filter's part of the patients was never published.
    patients = found.patients_published if found.comparable else None
    for name, count, published in (
        ("images", found.images, found.images_published),
        ("patients", found.patients, patients),
    ):
        last = [_or_dash(published)] if found.images_published else []
        table.add_row(name, f"{count:,}", *last)
    table.add_row("missing", Text(f"{found.missing:,}", "yellow" if found.missing else ""))
    table.add_row("decoded on trial", f"{found.decoded:,}")
    table.add_row("damaged", Text(f"{found.damaged:,}", "yellow" if found.damaged else ""))
    if found.contradictory:
        table.add_row("contradictory", Text(f"{found.contradictory:,}", "yellow"))
    return table


def _splits(found: CopyCheck) -> Table:
    from retune.cli.console import plain_table

    table = plain_table()
    table.add_column("split", no_wrap=True)
    for head in ("images", "patients"):
        table.add_column(head, justify="right", no_wrap=True)
    for split in found.splits:
        table.add_row(split.split, f"{split.images:,}", f"{split.patients:,}")
    return table


def _labels(found: CopyCheck) -> Table:
    from rich.text import Text

    from retune.cli.console import plain_table

    table = plain_table()
    table.add_column("label", overflow="fold")
    published = found.comparable and any(count.published is not None for count in found.labels)
    for head in ("present", "absent", "unknown", *(["published present"] if published else [])):
        table.add_column(head, justify="right", no_wrap=True)
    for count in found.labels:
        cells = [f"{count.positive:,}", f"{count.negative:,}", f"{count.unknown:,}"]
        differs = count.published not in (None, count.positive)
        last = [Text(_or_dash(count.published), "yellow" if differs else "")] if published else []
        table.add_row(Text(count.label), *cells, *last)
    return table


def _verdict(found: CopyCheck) -> object:
    from rich.text import Text

    sound = f", and the {found.decoded:,} decoded on trial are sound" if found.decoded else ""
    if found.complete:
        known = "" if found.images_published else "; no counts are published to hold it against"
        known = "" if found.synthetic else known
        return Text.assemble(("Complete", "bold green"), f": every picture is there{sound}{known}.")
    readable = "" if found.missing or found.damaged else f"; but every picture in it is there{sound}"
    return Text.assemble(("Incomplete", "bold yellow"), f": {'; '.join(found.problems)}{readable}.")


def _or_dash(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"
