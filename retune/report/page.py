"""The page: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from retune.data.findings import codes
from retune.metrics.table import in_table
from retune.report.figures import KEPT, kept
from retune.report.heatmap import label_order
from retune.results import text
from retune.results.cautions import contaminated, hidden, left_out, pictures, undefined, unlearnable
from retune.settings import typed

if TYPE_CHECKING:
    from retune.report.groups import MethodGroup, Runs, Section
    from retune.report.views import View
    from retune.results.result import Result

OPEN: Final = 6
"""Heat-maps that are shown unfolded, at most."""


def render(runs: Runs, views: list[View]) -> str:
    """The page as text.

    Args:
        runs: What it is about.
        views: Its figures, one view for each section.
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
    return template.render(
        style=Markup((here / "page.css").read_text(encoding="utf-8")),
        runs=runs,
        results=results,
        synthetic=sorted({r.dataset.name for r in results if r.dataset.synthetic}),
        all_synthetic=all(r.dataset.synthetic for r in results),
        strategies=len({r.strategy.name for r in results}),
        streams=sum(len(section.streams) for section in runs.sections),
        sections=[_section(section, view) for section, view in zip(runs.sections, views, strict=True)],
        metrics=in_table("report"),
        levels=sorted({f"{100 * r.bootstrap.level:g} %" for r in results}),
        markup=Markup,
        rows=_rows,
        seeds=_seeds,
        keeps=_keeps,
    )


def _section(section: Section, view: View) -> dict[str, Any]:
    """What the template cannot work out for itself."""
    results = section.results
    example = results[0]
    versions = Counter(tuple(sorted(r.run.versions.items())) for r in results)
    table: dict[int, dict[int, MethodGroup]] = {method.number: {} for method in section.methods}
    for k, stream in enumerate(section.streams):
        for group in stream.groups:
            table[group.method.number][k] = group
    labels = {
        c: label
        for stream in section.streams
        for c, label in zip(codes(stream.labels), stream.labels, strict=True)
    }
    return {
        "section": section,
        "view": view,
        "example": example,
        "cautions": _cautions(results),
        "metrics": [m for m in in_table("report") if any(r.metric(m.key).value is not None for r in results)],
        "table": table,
        "versions": sorted(versions.items()),
        "prompts": sorted({r.prompts.name for r in results}),
        "devices": sorted({r.backbone.device for r in results}),
        "several_seeds": any(len(e.runs) > 1 for s in section.streams for e in s.groups),
        "averaged": any(e.averaged for s in section.streams for e in s.groups),
        "keeps": {n: max(map(kept, row.values()), key=KEPT.index) for n, row in table.items()},
        "open": sum(len(s.groups) for s in section.streams) <= OPEN,
        "codes": labels,
    }


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
    lines = [line for result in results for line in _cautions_of(result)]
    return [text for _, text in sorted(dict.fromkeys(lines), key=lambda line: line[0])]


def _cautions_of(result: Result) -> list[tuple[int, str]]:
    unreadable = len(result.dataset.unreadable_images)
    lost = [f"{unreadable:,} images could not be read and were left out."] if unreadable else []
    graded = (
        contaminated(result),
        [*hidden(result), *pictures(result)],
        [*left_out(result), *lost, *undefined(result), *unlearnable(result)],
        result.dataset.notes,
    )
    return [(grade, line) for grade, lines in enumerate(graded) for line in lines]
