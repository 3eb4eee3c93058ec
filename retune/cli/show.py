"""``retune show``: the card of one name."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from retune.cli.options import AsJson


def show(
    kind: Annotated[str, typer.Argument(help="dataset, backbone, scenario, strategy, transfer or prompts.")],
    name: Annotated[str, typer.Argument(help="A name from 'retune list', or a Python file.")],
    dim: Annotated[int, typer.Option(min=1, help="Joint dimension that parameter counts are for.")] = 128,
    paper: Annotated[
        bool, typer.Option("--paper", help="A strategy's published parameter counts beside ours.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show what something is, its source, settings and parameter counts."""
    from retune.catalog import card
    from retune.cli.console import print_json

    found = card(kind, name, dim=dim, paper=paper)
    if json:
        print_json(found)
    else:
        print_card(found)


def print_card(found: dict[str, Any]) -> None:
    """A card as text and tables."""
    from rich.text import Text

    from retune.cli.console import console, plain_table

    out = console()
    out.print(Text(found["name"], "bold"))
    out.print(Text(unwrapped(found["summary"])))
    if found.get("description") and found["description"] not in found["summary"]:
        out.print()
        out.print(Text(unwrapped(found["description"])))
    out.print()
    facts = plain_table(heads=False)
    facts.add_column("", no_wrap=True, style="bold")
    facts.add_column("", overflow="fold")
    for key, value in found.items():
        if key not in (
            "name",
            "kind",
            "summary",
            "description",
            "settings",
            "prompts",
            "mapping",
            "presets",
            "published_figures",
            "trainable_parameters",
        ):
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            facts.add_row(key.replace("_", " "), Text(text or "-"))
    out.print(facts)
    if found.get("mapping"):
        out.print()
        out.print(_mapping(found["mapping"]))
    if found.get("settings"):
        out.print()
        prefix = {"datasets": "data.", "scenarios": "scenario.", "transfers": "transfer."}.get(
            found["kind"], ""
        )
        out.print(Text(f"Settings, for --set {prefix}NAME=VALUE", "bold"))
        out.print(_settings(found))
    for preset, values in found.get("presets", {}).items():
        told = ", ".join(f"{key}={value}" for key, value in values.items())
        out.print()
        out.print(Text.assemble(f"Preset {found['name'].split('/')[0]}/", (preset, "bold"), f": {told}"))
    if found.get("published_figures") == []:
        out.print()
        out.print("No figures of its paper are known.")
    elif "published_figures" in found:
        out.print()
        out.print(_figures(found["published_figures"]))
    if found.get("trainable_parameters"):
        out.print()
        out.print(Text(f"Trainable parameters at d = {found['dim']}, {found['n_labels']} labels", "bold"))
        counts = plain_table(heads=False)
        counts.add_column("", no_wrap=True)
        counts.add_column("", justify="right")
        for variant, count in found["trainable_parameters"].items():
            counts.add_row(variant, f"{count:,}")
        out.print(counts)
    if found.get("prompts"):
        out.print()
        table = plain_table()
        for column in ("finding", "positive", "negative"):
            table.add_column(column, justify="left" if column == "finding" else "right")
        for row in found["prompts"]:
            table.add_row(row["finding"], str(row["positive"]), str(row["negative"]))
        out.print(table)


def unwrapped(doc: str) -> str:
    """A docstring as prose: a line per paragraph, no markup; indented lines, such as formulas, stay."""
    return re.sub(r"(?<=\S)\n(?=[^\s])", " ", doc).replace("``", "")


def _figures(figures: list[dict[str, Any]]) -> Any:
    from rich.text import Text

    from retune.cli.console import plain_table

    table = plain_table()
    table.add_column("figure", overflow="fold")
    for name in ("published", "ours"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("source", overflow="fold")
    for figure in figures:
        count = figure["unit"] == "parameters"
        numbers = [f"{figure[k]:,.0f}" if count else f"{figure[k]:.1f} %" for k in ("published", "ours")]
        equal = abs(figure["published"] - figure["ours"]) <= (0 if count else 0.05)
        mark = Text("equal", "dim") if equal else Text("differs", "yellow")
        table.add_row(Text(figure["name"]), *numbers, mark, Text(figure["source"], "dim"))
    return table


def _mapping(mapping: dict[str, str]) -> Any:
    """Canonical names, each with the data set's own spellings of it."""
    from rich.text import Text

    from retune.cli.console import plain_table

    table = plain_table()
    table.add_column("finding", no_wrap=True)
    table.add_column("what the data set calls it", overflow="fold")
    names = dict.fromkeys(name for name in mapping.values() if name)
    for name in names:
        spelt = [spelling for spelling, canonical in mapping.items() if canonical == name]
        table.add_row(name, Text("; ".join(spelt)))
    unused = [spelling for spelling, canonical in mapping.items() if not canonical]
    if unused:
        table.add_row(Text("not used", "dim"), Text("; ".join(unused), "dim"))
    return table


def _settings(found: dict[str, Any]) -> Any:
    from rich.text import Text

    from retune.cli.console import plain_table

    table = plain_table()
    for column in ("name", "default", "type", "meaning"):
        table.add_column(column, overflow="fold")
    for setting in found["settings"]:
        default = "none" if setting["default"] is None else str(setting["default"])
        table.add_row(
            Text(setting["name"], "bold"), default, Text(setting["type"]), Text(unwrapped(setting["doc"]))
        )
    return table
