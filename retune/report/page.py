"""The page: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from retune.metrics.table import DECIDES, DENSE, Metric, in_table
from retune.report.figures import kept
from retune.report.heatmap import label_order
from retune.results import text
from retune.results.cautions import cautions
from retune.results.compare import Difference, Estimate
from retune.results.own import NOT_OURS, problems
from retune.results.verdict import verdict as run_verdict
from retune.settings import typed
from retune.suite.layout import rank_lines, rank_rows
from retune.suite.orders import ORDER_HEADS, ORDER_READING, over_orders
from retune.suite.ranks import Ranks, rank_methods
from retune.suite.runs import prompts_words
from retune.suite.verdict import verdict

if TYPE_CHECKING:
    from retune.report.groups import MethodGroup, Runs, Section, StreamGroup
    from retune.report.views import StreamView, View
    from retune.results.result import Result


@dataclass(frozen=True)
class Column:
    """A column of the table of a stream.

    Args:
        heading: Above it.
        meaning: What it says, in a few words.
        definition: Its formula.
        of: Its cell for a method; none where it is undefined.
        signed: Whether a plus stands before what is above 0.
        decides: Whether methods are ranked by it.
        over_seeds: Whether it is a mean over them.
    """

    heading: str
    meaning: str
    definition: str
    of: Callable[[MethodGroup], Estimate | None]
    signed: bool = False
    decides: bool = False
    over_seeds: bool = True


def _of_metric(metric: Metric) -> Column:
    return Column(
        metric.heading,
        metric.meaning,
        metric.definition,
        lambda group: group.metric(metric.key),
        decides=metric == DECIDES,
    )


def _to_best(group: MethodGroup) -> Difference | None:
    return group.row.to_best.get(DECIDES.key) if group.row else None


def _detectable(group: MethodGroup) -> Estimate | None:
    found = _to_best(group)
    return Estimate.of([found.detectable]) if found else None


COLUMNS: Final = (
    _of_metric(DECIDES),
    Column(
        "to best",
        "final AUC minus that of the best, on the same patients",
        "final AUC minus that of the best, on the same seeds and the same resampled patients; tied where the interval "
        "includes 0, not corrected for the number of methods",
        _to_best,
        signed=True,
    ),
    Column(
        "detectable",
        "the smallest difference that these test patients could show",
        "the smallest difference to the best that these test patients could show with 80 % power at the two-sided "
        "5 % level: 2.80 bootstrap standard errors of the paired difference (Bloom, 1995)",
        _detectable,
        over_seeds=False,
    ),
    Column(
        "share of the way",
        "from zero-shot to the upper bound",
        "(final AUC - zero-shot AUC) / (upper bound's final AUC - zero-shot AUC); undefined where the upper bound is "
        "not above zero-shot beyond its interval",
        lambda group: group.row.share if group.row else None,
    ),
    *(_of_metric(metric) for metric in (*in_table("report"), *DENSE) if metric != DECIDES),
)
"""Those that are undefined for all methods of a stream are left out."""


def _own_columns(groups: Iterable[MethodGroup]) -> list[Column]:
    """Metrics of one's own: told apart in their headings."""
    found = {name: one for group in groups for run in group.runs for name, one in run.own.items()}
    return [
        Column(
            f"{name} †", one.meaning, f"† {NOT_OURS} ({one.origin}); {one.meaning}", partial(_own, name=name)
        )
        for name, one in found.items()
    ]


def _own(group: MethodGroup, name: str) -> Estimate:
    return Estimate.of([run.own[name].value if name in run.own else None for run in group.runs])


def render(runs: Runs, views: list[View], audit: str = "") -> str:
    """The page as text.

    Args:
        runs: What it is about.
        views: Its figures, one view for each section.
        audit: A page beside it that audits updates; none where empty.
    """
    # Text of results is hostile until escaped: everything is, but for the figures and the style sheet.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        decimals=text.decimals,
        whole=text.count,
        seconds=text.seconds,
        plain=lambda value: text.shown(typed(value)),
    )
    environment.finalize = lambda value: text.shown(value) if type(value) is str else value
    here = files("retune.report")
    template = environment.from_string((here / "page.html.j2").read_text(encoding="utf-8"))
    results = runs.results
    parts = [_section(section, view) for section, view in zip(runs.sections, views, strict=True)]
    columns = {c.heading: c for part in parts for stream in part["streams"] for c in stream["columns"]}
    order = {column.heading: k for k, column in enumerate(COLUMNS)}
    return template.render(
        style=Markup((here / "page.css").read_text(encoding="utf-8")),
        runs=runs,
        audit=audit,
        results=results,
        synthetic=sorted({r.dataset.name for r in results if r.dataset.synthetic}),
        all_synthetic=all(r.dataset.synthetic_word == "synthetic" for r in results),
        strategies=len({r.strategy.name for r in results}),
        streams=sum(len(section.streams) for section in runs.sections),
        sections=parts,
        decides=DECIDES.key,
        order_heads=ORDER_HEADS,
        order_reading=ORDER_READING,
        explained=sorted(columns.values(), key=lambda c: (order.get(c.heading, len(order)), c.heading)),
        levels=sorted({f"{100 * r.bootstrap.level:g} %" for r in results}),
        dense=any(stream["view"].transfers for part in parts for stream in part["streams"]),
        markup=Markup,
        rows=_rows,
        seeds=_seeds,
        keeps=_keeps,
    )


def _section(section: Section, view: View) -> dict[str, Any]:
    """What the template cannot work out for itself."""
    results = section.results
    versions = Counter(tuple(sorted(r.run.versions.items())) for r in results)
    table: dict[str, dict[int, MethodGroup]] = {method.label: {} for method in section.methods}
    for k, stream in enumerate(section.streams):
        for group in stream.groups:
            table[group.method.label][k] = group
    ranks = _ranks(section)
    return {
        "section": section,
        "view": view,
        "streams": [_stream(one) for one in view.streams],
        "example": results[0],
        "cautions": _cautions(results),
        "table": table,
        "best": _best(section),
        "ranks": rank_lines(ranks) if len(section.streams) > 1 else [],
        "mean_ranks": {method: rank for method, rank, _ in rank_rows(ranks)},
        "orders": over_orders(stream.setting for stream in section.streams if stream.setting),
        "tied": {method: letters for method, _, letters in rank_rows(ranks)},
        "versions": sorted(versions.items()),
        "prompts": sorted({r.prompts.name for r in results}),
        "devices": sorted({r.backbone.device for r in results}),
        "several_seeds": any(len(e.runs) > 1 for s in section.streams for e in s.groups),
        "averaged": any(e.averaged for s in section.streams for e in s.groups),
    }


def _best(section: Section) -> list[str]:
    """Of each stream, which method is best and which are tied with it."""
    found = []
    for stream in section.streams:
        best, tied = ([m for m, r in stream.roles.items() if r == role] for role in ("best", "tied"))
        if best:
            also = f", tied with {text.listed(tied)}" if tied else ""
            found.append(f"Best on {stream.title}: {best[0]}{also}.")
    return found


def _verdict(stream: StreamGroup) -> str:
    """What a stream comes to: of a run that stands alone, what it forgot and what is at chance, too."""
    runs = [run for group in stream.groups for run in group.runs]
    alone = run_verdict(runs[0]) if len(runs) == 1 else None
    told = alone or (verdict(stream.setting) if stream.setting else "")
    return re.sub(r"(?<![\w.])-(?=\.?\d)", "−", told)


def _stream(view: StreamView) -> dict[str, Any]:
    groups = view.stream.groups
    return {
        "view": view,
        "verdict": _verdict(view.stream),
        "prompts": prompts_words(run.prompts.name for group in groups for run in group.runs),
        "columns": [
            column
            for column in (*COLUMNS, *_own_columns(groups))
            if any(_known(column.of(group)) for group in groups)
        ],
        "joint": "" if any(g.method.upper_bound for g in groups) else _joint(groups[0].runs[0].run.command),
        "keeps": {group.method.label: kept(group) for group in groups},
    }


def _joint(command: str) -> str:
    """The command that trains on everything at once what a run's command trains step by step."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    found, left = [], iter(words)
    for word in left:
        if word in ("--strategy", "--search", "--out"):
            next(left, None)
        elif word == "--set":
            setting = next(left, "")
            # Without a dot it is a setting of the strategy.
            found += [word, setting] if "." in setting.partition("=")[0] else []
        else:
            found.append(word)
    return shlex.join([*(found or ["retune", "run"]), "--strategy", "joint"])


def _known(cell: Estimate | None) -> bool:
    return cell is not None and cell.n > 0


def _ranks(section: Section) -> Ranks:
    """Of the continual methods over the streams, as a suite ranks them."""
    finals = {
        stream.title: {
            group.method.label: group.final
            for group in stream.groups
            if not group.method.bound and group.final is not None
        }
        for stream in section.streams
    }
    return rank_methods(finals)


def _rows(group: MethodGroup) -> list[dict[str, Any]]:
    """Per-label numbers of one method, in the order in which labels are learnt."""
    first = group.shown[0].first
    auc, low, high = (group.matrix(name) for name in ("auc_matrix", "auc_low", "auc_high"))
    lost, _ = group.forgetting()
    labels = group.runs[0].labels
    return [
        {
            "label": labels[c],
            "first": first[c] or "never",
            "zero_shot": auc[0, c],
            "final": auc[-1, c],
            "low": low[-1, c],
            "high": high[-1, c],
            "lost": lost[c],
        }
        for c in label_order(first)
    ]


def _seeds(group: MethodGroup) -> str:
    """Which seeds a matrix is the mean of."""
    if not group.one_order:
        return f"seed {group.runs[0].run.seed} alone, for labels come in another order with every seed"
    many = len(group.runs)
    mean = f"mean of {many} seeds, and so are the ends of a label's interval"
    return mean if many > 1 else f"seed {group.runs[0].run.seed}"


def _keeps(group: MethodGroup) -> str:
    """What is kept of past patients, mean over seeds."""
    return (
        text.stored(*(group.cost(f"stored_{kind}") for kind in ("images", "features", "bytes"))) or "nothing"
    )


def _cautions(results: Iterable[Result]) -> list[str]:
    """One line for each reason to read numbers with care, the gravest first, none twice.

    That data are synthetic is not among them: it stands beside the data set's name.
    """
    runs = list(results)
    beside = (
        line
        for result in runs
        for line in (*result.dataset.notes, *(f"{line}." for line in problems(result)))
    )
    return list(dict.fromkeys((*cautions(*runs), *beside)))
