"""``retune list``: every name there is, without importing what it names."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from retune.cli.options import AsJson

if TYPE_CHECKING:
    from rich.console import Console


class Kinds(StrEnum):
    """What can be listed."""

    datasets = "datasets"
    backbones = "backbones"
    scenarios = "scenarios"
    strategies = "strategies"
    transfers = "transfers"
    metrics = "metrics"
    prompts = "prompts"


def list_(
    kind: Annotated[Kinds | None, typer.Argument(help="What to list; everything if left out.")] = None,
    json: AsJson = False,
) -> None:
    """List data sets, backbones, scenarios, strategies, transfers, metrics of your own and prompt banks."""
    from rich.text import Text

    from retune.catalog import listing
    from retune.cli.console import console, print_json
    from retune.results.text import shown

    kinds = [kind.value] if kind else [k.value for k in Kinds]
    found = {k: listing(k) for k in kinds}
    if json:
        print_json(found)
        return
    out = console()
    if kind is None:
        _overview(out, found)
        return
    for row in found[kind.value]:
        # A name is whole, to be copied; what it is, in a line.
        line = f"{row['name']:<18} {row['summary']}{_brought(row)}"
        out.print(Text(shown(line, out.width)), soft_wrap=True)
    if not found[kind.value]:
        out.print(Text(f"no {kind.value} are installed; a file of your own is named where it is used"))


def _overview(out: Console, found: dict[str, list[dict[str, str]]]) -> None:
    """Every name, on one screen."""
    from rich.text import Text

    from retune.cli.console import plain_table

    table = plain_table(heads=False)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for name, rows in found.items():
        if rows:
            table.add_row(Text(name, "bold"), ", ".join(_name(row) for row in rows))
    out.print(table)
    out.print()
    out.print(Text("retune list strategies\nretune show strategy re-tune"), soft_wrap=True)
    out.print(Text("The one says in a line what each of a kind is, the other all of one.", "dim"))


def _name(row: dict[str, str]) -> str:
    """With who brings it, where the name does not say so."""
    return row["name"] + ("" if ":" in row["name"] else _brought(row))


def _brought(row: dict[str, str]) -> str:
    return "" if row["origin"] == "retune" else f" ({row['origin']})"
