"""A run's transfer in a terminal: each finding's numbers, beside what is scored without looking at a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from retune.cli.console import plain_table
from retune.results.text import number
from retune.results.transfers import STILL, headline, sizes, title, words
from retune.results.transfers import beside as numbers_beside

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from retune.results.result import TransferRecord

LONGEST: Final = 26
"""Characters of a finding's name in a line."""


def print_transfer(out: Console, record: TransferRecord) -> None:
    """Two tables: the headline number over time, then every other number at the end with the trivial predictors'."""
    from rich.text import Text

    out.print(Text(f"{title(record)}: {sizes(record)}", "bold"))
    if not record.moves:
        out.print(Text(STILL, "dim"))
    for line in words(record):
        out.print(Text(line, "yellow"))
    shown = [k for k, n in enumerate(record.positives_test) if n]
    refit, _ = headline(record)
    if np.isnan(refit).all():
        out.print("No finding has enough positives for a number: take a larger share, or another draw.")
        out.print()
        return
    _over_time(out, record, shown)
    _at_the_end(out, record, shown)


def _over_time(out: Console, record: TransferRecord, shown: list[int]) -> None:
    refit, kept = headline(record)
    low, high = (headline(record, end)[0, -1] for end in ("_low", "_high"))
    lost = np.fmax.reduce(refit[:-1]) - refit[-1]
    trivial = {
        name: of[record.headline] for name, of in record.trivial.items() if any(of.get(record.headline, []))
    }
    heads = ["positives", "before", "end", "95 % interval", "forgotten", "kept", *trivial]
    table = plain_table(gap=1)
    _findings(table, record.headline, record)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for k in shown:
        defined = not np.isnan(refit[-1, k])
        table.add_row(
            record.findings[k],
            f"{record.positives_test[k]:,}",
            number(refit[0, k]),
            number(refit[-1, k]),
            f"{number(low[k])} to {number(high[k])}" if defined else "-",
            number(lost[k], signed=True),
            number(kept[-1, k]),
            *(number(of[k]) for of in trivial.values()),
        )
    out.print(table)
    n = int((~np.isnan(refit[-1])).sum())
    legend = "Forgotten: fall from the best moment before the end. Kept: the probe that was fitted first, at the end."
    out.print(f"{legend} Means are over {n} of {len(record.findings)}.", style="dim")
    out.print()


def _at_the_end(out: Console, record: TransferRecord, shown: list[int]) -> None:
    """Whoever reads the published rule's number sees what predicting nothing scores by it."""
    from rich.text import Text

    columns = numbers_beside(record)
    table = plain_table(gap=1)
    _findings(table, "at the end", record)
    for head, _ in columns:
        table.add_column(Text(head.replace(" ", "\n", 1)), justify="right", no_wrap=True)
    for k in shown:
        table.add_row(record.findings[k], *(number(values[k]) for _, values in columns))
    if columns:
        out.print(table)
        out.print()


def _findings(table: Table, head: str, record: TransferRecord) -> None:
    longest = min(max(map(len, record.findings), default=0), LONGEST)
    table.add_column(head, overflow="fold", min_width=longest, max_width=LONGEST)
