"""``retune cache``: what the feature store holds, whether it is sound, and clearing it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from retune.cli.options import AsJson

if TYPE_CHECKING:
    from retune.features.housekeeping import SpaceInfo

app = typer.Typer(help="List, verify and prune the feature store.", invoke_without_command=True)


@app.callback()
def _list_by_default(context: typer.Context, json: AsJson = False) -> None:
    """List, verify and prune the feature store; lists it where nothing else is asked."""
    if context.invoked_subcommand is None:
        list_(json)


@app.command("list")
def list_(json: AsJson = False) -> None:
    """List what is kept, with its size and when it was last used."""
    from retune.cli.console import console, print_json
    from retune.features.housekeeping import spaces
    from retune.features.store import spaces_dir

    found = spaces()
    if json:
        print_json([_document(space) for space in found])
        return
    out = console()
    if not found:
        out.print(f"{spaces_dir()} holds nothing yet.", soft_wrap=True)
        return
    out.print(_table(found))
    out.print()
    out.print(f"{_size(sum(s.bytes for s in found))} in {spaces_dir()}", soft_wrap=True)


@app.command("verify")
def verify(json: AsJson = False) -> None:
    """Read every file; remove damaged ones, which are then encoded again when needed. Exit code 1 if there are any."""
    from retune.cache import changed_files
    from retune.cli.console import bars, console, print_json
    from retune.features.housekeeping import spaces
    from retune.features.housekeeping import verify as check
    from retune.features.store import SUFFIX, spaces_dir

    found = spaces()
    with bars() as progress:
        damaged = check(found, progress)
    changed = changed_files(beside=spaces_dir())
    if json:
        shards = sum(s.shards for s in found)
        print_json({"shards": shards, "damaged": [str(path) for path in damaged], "changed": changed})
    else:
        out = console()
        for path in damaged:
            out.print(f"damaged, removed: {path}", soft_wrap=True)
        for name in changed:
            out.print(f"not what its remembered digest says, which is forgotten: {name}", soft_wrap=True)
        sound = sum(s.shards for s in found) - sum(path.suffix == SUFFIX for path in damaged)
        out.print(f"{sound:,} files are sound, {len(damaged):,} were damaged")
    if damaged or changed:
        raise typer.Exit(1)


@app.command("prune")
def prune(
    backbone: Annotated[str | None, typer.Option(help="Only what this backbone made.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only images, tokens, pixels or texts.")] = None,
    unused: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0, help="Only what was not used for so many days.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: AsJson = False,
) -> None:
    """Remove features; they are encoded again when needed."""
    from typing import get_args

    from retune.cli.console import console, print_json
    from retune.errors import BadSetting, UnknownName
    from retune.features.housekeeping import prune as remove
    from retune.features.housekeeping import select, spaces
    from retune.features.store import Kind

    if not (everything or backbone or kind or unused is not None):
        raise BadSetting(
            "says not what to remove",
            where="retune cache prune",
            fix="give --backbone, --kind, --unused or --all",
        )
    if backbone and backbone not in {s.backbone for s in spaces()}:
        raise UnknownName(
            "backbone in the store", backbone, {s.backbone for s in spaces()}, where="--backbone"
        )
    if kind and kind not in get_args(Kind):
        raise UnknownName("kind", kind, get_args(Kind), where="--kind")
    chosen = select(backbone=backbone, kind=kind, unused_days=unused)
    freed = sum(s.bytes for s in chosen) if dry_run else remove(chosen)
    if json:
        print_json({"removed": [_document(s) for s in chosen], "bytes": freed, "dry_run": dry_run})
        return
    out = console()
    if chosen:
        out.print(_table(chosen))
        out.print()
    out.print(f"{'would free' if dry_run else 'freed'} {_size(freed)}")


def _table(found: list[SpaceInfo]) -> Any:
    from datetime import datetime

    from rich.text import Text

    from retune.cli.console import plain_table

    table = plain_table()
    table.add_column("backbone", overflow="fold")
    for name in ("kind", "precision", "device"):
        table.add_column(name, no_wrap=True)
    for name in ("held", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("last used", no_wrap=True)
    for s in found:
        used = datetime.fromtimestamp(s.used).strftime("%Y-%m-%d")
        table.add_row(Text(s.backbone), s.kind, s.precision, s.device, f"{s.values:,}", _size(s.bytes), used)
    return table


def _size(n: int) -> str:
    value = float(n)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 10 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _document(space: SpaceInfo) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(space), "folder": str(space.folder)}
