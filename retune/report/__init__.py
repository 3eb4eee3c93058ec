"""One self-contained page, and figures for papers, from the results of many runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from retune.files import make_folder, write_whole

if TYPE_CHECKING:
    from retune.progress import Progress
    from retune.report.groups import Runs
    from retune.results.result import Result
    from retune.suite.summary import Setting

PAGE_FILE: Final = "report.html"
AUDIT_FILE: Final = "audit.html"
"""What ``retune audit`` writes; a page beside it links it."""
FIGURES: Final = "figures"

__all__ = ["AUDIT_FILE", "FIGURES", "PAGE_FILE", "write_report"]


def write_report(
    paths: Iterable[str | Path],
    out: str | Path = "report",
    *,
    figures: bool = False,
    metrics: Sequence[str] = (),
    progress: Progress | None = None,
) -> Runs:
    """Write one HTML page about some runs; the same runs give the same bytes, but for a link to an audit beside it.

    Args:
        paths: Folders of runs, folders that hold runs at any depth, or ``result.json`` files.
        out: Folder that gets ``report.html``; made where it is not there.
        figures: Write every figure also as SVG and as PNG (two pixels a point) under ``figures/``.
        metrics: Of one's own, beside those that are installed: names, or Python files.
        progress: Called with a stage, what is done of it and what there is to do.

    Returns:
        The runs that the page is about.

    Raises:
        UserError: If there is no run, a result is broken, or two results contradict each other.
        StorageError: If the disk is full.
    """
    from retune.report.drawing import png
    from retune.report.groups import Runs, sections
    from retune.report.page import render
    from retune.report.suites import Suites, compared
    from retune.report.views import draw
    from retune.results.collect import collect

    tell = progress or (lambda stage, done, total: None)
    found = collect(paths, tell, metrics)
    suites, measured = Suites(found.folders), 0

    def compare(methods: Mapping[str, Sequence[Result]]) -> Setting | None:
        nonlocal measured
        measured += sum(map(len, methods.values()))
        tell("comparing runs", measured, len(found.results))
        return compared(methods, suites, found.folders)

    names = {run: cell.strategy for run, cell in suites.cells.items()}
    runs = Runs(sections(found.results, names, compare), (*found.notes, *suites.notes))
    views = draw(runs, tell)
    folder = Path(out)
    page = render(runs, views, AUDIT_FILE if (folder / AUDIT_FILE).is_file() else "").encode()
    make_folder(folder / FIGURES if figures else folder)
    if figures:
        drawn = [figure for view in views for figure in view.figures]
        for k, figure in enumerate(drawn):
            write_whole(folder / FIGURES / f"{figure.name}.svg", figure.svg.encode())
            write_whole(folder / FIGURES / f"{figure.name}.png", png(figure.svg))
            tell("writing figures", k + 1, len(drawn))
    write_whole(folder / PAGE_FILE, page)
    return runs
