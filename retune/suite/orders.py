"""How much a method's numbers hang on the order of tasks, beside how much they hang on the seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from statistics import fmean
from typing import Final

from retune.metrics.seeds import mean_and_sd
from retune.metrics.table import DECIDES
from retune.results.result import BOUNDS
from retune.results.text import number
from retune.suite.summary import Setting

METRICS: Final = {DECIDES.key: DECIDES.heading, "forgetting": "forgetting"}
ORDER_HEADS: Final = (
    "method",
    "orders",
    *(head for name in METRICS.values() for head in (name, "sd orders", "sd seeds")),
)
ORDER_READING: Final = (
    "Mean over task orders of the means over seeds, and their standard deviation; sd seeds is that over seeds within "
    "an order, root mean square over orders. Order 1 is the scenario's own, order k the same for every method, data set "
    "and seed (scenario.task_order=k); training parts, test images and seeds are those of order 1."
)


@dataclass(frozen=True)
class OrderTable:
    """The methods on one scenario, data set and backbone over several task orders.

    Args:
        title: What they were run on.
        rows: A cell for each of :data:`ORDER_HEADS`; the best mean first, bounds last.
    """

    title: str
    rows: list[list[str]]


def over_orders(settings: Iterable[Setting]) -> list[OrderTable]:
    """A table for whatever was run in more than one task order."""
    groups: dict[tuple[str, str, str], list[Setting]] = {}
    for setting in settings:
        if setting.order.isdigit():
            groups.setdefault((setting.scenario, setting.data, setting.backbone), []).append(setting)
    return [
        OrderTable(f"Over {len(group)} task orders: {', '.join(place)}", _rows(group))
        for place, group in groups.items()
        if len(group) > 1
    ]


def _rows(group: list[Setting]) -> list[list[str]]:
    names = dict.fromkeys(row.strategy for setting in group for row in setting.rows)
    found = {}
    for name in names:
        rows = [row for setting in group for row in setting.rows if row.strategy == name]
        cells: list[float] = []
        for key in METRICS:
            means = [value for row in rows if (value := row.metrics[key].mean) is not None]
            within = [value**2 for row in rows if (value := row.metrics[key].sd) is not None]
            mean, sd = map(float, mean_and_sd(means))
            cells += [mean, sd, sqrt(fmean(within)) if within else float("nan")]
        found[name] = (len(rows), cells)
    bounds = {row.strategy: BOUNDS.index(row.role) for row in group[0].rows if row.role in BOUNDS}
    ordered = sorted(names, key=lambda name: (bounds.get(name, 0), -found[name][1][0]))
    return [[name, str(found[name][0]), *map(number, found[name][1])] for name in ordered]
