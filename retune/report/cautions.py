"""What must stand above the numbers of several runs."""

from __future__ import annotations

from collections.abc import Iterable

from retune.results.cautions import contaminated, left_out, pictures, undefined
from retune.results.result import Result


def cautions(results: Iterable[Result]) -> list[str]:
    """One line for each reason to read numbers with care, the gravest first, none twice.

    That data are synthetic is not among them: it stands beside the data set's name.
    """
    lines = [line for result in results for line in _of_one(result)]
    return [text for _, text in sorted(dict.fromkeys(lines), key=lambda line: line[0])]


def _of_one(result: Result) -> list[tuple[int, str]]:
    unreadable = len(result.dataset.unreadable_images)
    lost = [f"{unreadable:,} images could not be read and were left out."] if unreadable else []
    graded = (
        contaminated(result),
        pictures(result),
        [*left_out(result), *lost, *undefined(result)],
        result.dataset.notes,
    )
    return [(grade, line) for grade, lines in enumerate(graded) for line in lines]
