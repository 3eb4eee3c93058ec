"""A suite that is not run yet, in a terminal: its grid, what of it is done, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.text import Text

from retune.cli.console import plain_table
from retune.results.text import shown
from retune.suite.forecast import forecast
from retune.suite.layout import counted
from retune.suite.runs import order_words
from retune.suite.watch import spoken
from retune.system import cores

if TYPE_CHECKING:
    from rich.console import Console

    from retune.suite.plans import Images, Plans

LONGEST: Final = 28
"""Characters of a name above a column."""
CELL: Final = "{} of {} done"


def print_plans(plans: Plans, folder: Path, jobs: int | None, to: Console) -> None:
    """Print them.

    Args:
        plans: With the images counted.
        folder: Of the suite.
        jobs: How many runs at the same time; one for each core where left out.
        to: Where to.
    """
    grid: dict[tuple[str, ...], dict[str, list[bool]]] = {}
    images: dict[str, Images] = {}
    ordered = any(job.run.order for job in plans.jobs)
    for job in plans.jobs:
        run = job.run
        order = [order_words(run.order) if run.order else ""] if ordered else []
        stream = tuple(shown(word, LONGEST) for word in (run.scenario, run.data, run.backbone, *order))
        grid.setdefault(stream, {}).setdefault(run.strategy, []).append(job.done)
        here, name = plans.images[job.stream], f"{run.data} with {run.backbone}"
        images[name] = max(here, images.get(name, here), key=lambda one: one.needed)
    _print_grid(grid, to)
    methods = {job.run.strategy for job in plans.jobs}
    seeds = {job.run.spec.seed for job in plans.jobs}
    to.print(
        f"{counted(len(plans.jobs), 'run')}, {len(plans.left):,} of them left: {counted(len(methods), 'method')}, "
        f"{counted(len(grid), 'stream')}, {counted(len(seeds), 'seed')}."
    )
    for name, one in images.items():
        told = (
            f"{one.held:,} of {one.needed:,} images are encoded"
            if one.needed
            else "no image has to be encoded"
        )
        to.print(Text(f"{name}: {told}."))
    if plans.left:
        to.print(Text(_time(plans, folder, min(jobs or cores(), len(plans.left)))))


def _print_grid(grid: Mapping[tuple[str, ...], Mapping[str, list[bool]]], to: Console) -> None:
    """Methods down, streams across, in as many blocks as the width asks for."""
    methods = list(dict.fromkeys(method for of in grid.values() for method in of))
    left = min(max(map(len, methods), default=0), to.width // 3)
    blocks: list[list[tuple[str, ...]]] = [[]]
    room = to.width - left
    for stream in grid:
        wide = 2 + max(len(CELL) + 2, *map(len, stream))
        if blocks[-1] and wide > room:
            blocks.append([])
            room = to.width - left
        blocks[-1].append(stream)
        room -= wide
    for streams in filter(None, blocks):
        table = plain_table()
        table.add_column("method", overflow="fold", min_width=left, max_width=left)
        for stream in streams:
            table.add_column(Text("\n".join(stream)), no_wrap=True)
        for method in methods:
            of = [grid[stream].get(method, []) for stream in streams]
            table.add_row(Text(method), *(CELL.format(sum(done), len(done)) if done else "-" for done in of))
        to.print(table)
        to.print()


def _time(plans: Plans, folder: Path, workers: int) -> str:
    """How long what is left may take; from nothing, nothing is told."""
    found = forecast(plans, [folder, Path("runs")])
    if not found.earlier:
        return f"How long it takes cannot be told: there is no earlier run in {folder} or runs."
    unknown = f" Not in it, for never run here: {', '.join(found.unknown)}." if found.unknown else ""
    encoding = f", and {spoken(found.encoding)} to encode" if found.encoding and found.to_encode else ""
    return (
        f"About {spoken(found.learning / workers)} to learn and score, {workers} at a time{encoding}, going by "
        f"{counted(found.earlier, 'earlier run')}; starting and the intervals of each run come on top.{unknown}"
    )
