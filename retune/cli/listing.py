"""``retune list``: every name there is, without importing what it names."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from retune.cli.options import AsJson


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
    from retune.cli.console import console, plain_table, print_json

    kinds = [kind.value] if kind else [k.value for k in Kinds]
    found = {k: listing(k) for k in kinds}
    if json:
        print_json(found)
        return
    out = console()
    for name, rows in found.items():
        if not rows and not kind:
            continue
        out.print(Text(name, "bold"))
        table = plain_table(heads=False)
        table.add_column("", no_wrap=True, min_width=17)
        table.add_column("")
        for row in rows:
            table.add_row(
                row["name"], row["summary"] + ("" if row["origin"] == "retune" else f" ({row['origin']})")
            )
        out.print(table)
        out.print()
