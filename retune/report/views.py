"""Every figure of a report, drawn, named and described."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retune.report import figures
from retune.report.drawing import inline, name_of, svg_of
from retune.report.groups import Method, MethodGroup, Runs, Section, StreamGroup
from retune.report.heatmap import matrix
from retune.report.transfers import TransferView, transfers_of
from retune.report.transfers import curves as curves_of
from retune.results.text import decimals, shown, slug

if TYPE_CHECKING:
    from retune.progress import Progress


@dataclass(frozen=True)
class Figure:
    """A figure.

    Args:
        name: Of its files, without an ending.
        svg: As a file.
        inline: As a part of the page.
    """

    name: str
    svg: str
    inline: str


@dataclass(frozen=True)
class StreamView:
    """The figures of one stream; ``matrices`` has one for each group."""

    stream: StreamGroup
    curves: Figure
    cost: Figure
    forgetting: Figure | None
    keeping: tuple[Method, ...]
    """Methods that neither lost nor gained: not in the figure of forgetting."""
    matrices: tuple[Figure, ...]
    transfers: tuple[tuple[TransferView, Figure], ...]


@dataclass(frozen=True)
class View:
    """The figures of one section."""

    section: Section
    streams: tuple[StreamView, ...]

    @property
    def figures(self) -> Iterator[Figure]:
        """All of them."""
        for view in self.streams:
            found = (view.curves, view.forgetting, view.cost, *view.matrices, *(f for _, f in view.transfers))
            yield from (figure for figure in found if figure is not None)


def draw(runs: Runs, progress: Progress) -> list[View]:
    """Draw everything.

    Args:
        runs: What to draw.
        progress: Told what is done.
    """
    streams = [stream for section in runs.sections for stream in section.streams]
    total = sum(len(stream.groups) + 3 + len(transfers_of(stream)) for stream in streams)
    pen = _Pen(progress, total)
    return [
        View(section, tuple(_stream(pen, section, stream) for stream in section.streams))
        for section in runs.sections
    ]


class _Pen:
    """Draws charts under names that are not yet taken."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total = progress, total
        self.names: list[str] = []
        self.done = 0

    def draw(self, chart: Any, name: str, alt: str) -> Figure:
        free, k = name, 1
        while free in self.names:
            k += 1
            free = f"{name}-{k}"
        self.names.append(free)
        svg = svg_of(chart)
        self.step()
        return Figure(free, svg, inline(svg, f"f{len(self.names)}-", alt))

    def step(self) -> None:
        self.done += 1
        self.progress("drawing figures", self.done, self.total)


def _stream(pen: _Pen, section: Section, stream: StreamGroup) -> StreamView:
    where = f"{slug(section.title)}-{slug(stream.title)}"
    title = shown(stream.title)
    domain = figures.curve_domain(section.streams)
    curves = pen.draw(
        figures.curves(stream, section.methods, domain), f"{where}-curves", _curves_alt(stream, title)
    )
    losing = [group for group in stream.groups if figures.forgets(group)]
    forgetting = None
    if losing:
        forgetting = pen.draw(
            figures.forgetting(losing), f"{where}-forgetting", _forgetting_alt(losing, title)
        )
    else:
        pen.step()
    cost = pen.draw(figures.cost(stream), f"{where}-cost", _cost_alt(stream, title))
    matrices = [
        pen.draw(
            matrix(group),
            f"{where}-matrix-{slug(group.method.short)}",
            _matrix_alt(group, title),
        )
        for group in stream.groups
    ]
    beside = [
        (view, pen.draw(curves_of(view), f"{where}-{slug(view.title)}", _transfer_alt(view, title)))
        for view in transfers_of(stream)
    ]
    keeping = tuple(group.method for group in stream.groups if group not in losing)
    return StreamView(stream, curves, cost, forgetting, keeping, tuple(matrices), tuple(beside))


def _curves_alt(stream: StreamGroup, title: str) -> str:
    ends = []
    for group in stream.groups:
        mean, _ = group.curve()
        ends.append(f"{name_of(group.method)} from {decimals(mean[0])} to {decimals(mean[-1])}")
    return (
        f"Lines: mean AUC over the labels seen so far, after experiences 1 to {stream.steps} of {title}. "
        f"{'; '.join(ends)}."
    )


def _forgetting_alt(losing: list[MethodGroup], title: str) -> str:
    means = [f"{name_of(e.method)} {decimals(e.metric('forgetting').mean)}" for e in losing]
    return (
        f"Bars: how far each label's AUC fell from its best on {title}, by method. Means: {'; '.join(means)}."
    )


def _cost_alt(stream: StreamGroup, title: str) -> str:
    return (
        f"Two scatter plots: final AUC on {title} against trainable parameters and against seconds of fitting, "
        f"both logarithmic, of {len(stream.groups)} methods. The table below holds the numbers."
    )


def _transfer_alt(view: TransferView, title: str) -> str:
    names = "; ".join(name_of(group.method) for group in view.moving) or "none, for no image side moves"
    return (
        f"Lines, a panel for each of {len(view.findings)} findings: {view.record.headline} of {shown(view.title)} before "
        f"training and after each experience of {title}. Methods: {names}. The tables below hold the numbers."
    )


def _matrix_alt(group: MethodGroup, title: str) -> str:
    result = group.shown[0]
    return (
        f"Heat-map: AUC of {len(result.labels)} labels before training and after each of "
        f"{len(result.auc_matrix) - 1} experiences of {title}, {name_of(group.method)}."
    )
