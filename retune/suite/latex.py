"""A suite's tables for a paper: LaTeX with booktabs, intervals in a line of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from retune.result import Bootstrap
from retune.suite.layout import (
    FINAL,
    HEADS,
    RANK_HEADS,
    Cell,
    cells_of,
    failed_lines,
    notes,
    rank_lines,
    rank_rows,
    reading,
    title,
)
from retune.suite.summary import Row, Setting, Summary

ESCAPES: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # After a line's end LaTeX takes these for its options.
    "[": "{[}",
    "*": "{*}",
    "±": r"$\pm$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def latex(summary: Summary) -> str:
    r"""The tables as floats that need ``\usepackage{booktabs}`` and nothing else.

    The best method and all that are tied with it are bold; upper bounds stand apart, below a rule.
    """
    parts = ["% \\usepackage{booktabs}", *(f"% {line}" for line in reading(summary.bootstrap))]
    parts += [f"% {line}" for line in failed_lines(summary)]
    parts += [_float(_caption(setting, summary.bootstrap), _body(setting)) for setting in summary.settings]
    ranked = rank_rows(summary.ranks)
    if ranked:
        body = _tabular("lrl", RANK_HEADS, [_line([escaped(text) for text in row]) for row in ranked])
        parts.append(_float(["Ranks over streams.", *rank_lines(summary.ranks)], body))
    else:
        parts += [f"% {line}" for line in rank_lines(summary.ranks)]
    return "\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text in which LaTeX sees no command."""
    return re.sub("|".join(map(re.escape, ESCAPES)), lambda found: ESCAPES[found[0]], text)


def _caption(setting: Setting, bootstrap: Bootstrap) -> list[str]:
    return [
        f"{title(setting)}.",
        f"Mean ± standard deviation over n seeds; small: {100 * bootstrap.level:g} % interval over resampled test "
        "patients. Bold: best, or tied with it.",
        *notes(setting),
    ]


def _body(setting: Setting) -> str:
    lines: list[str] = []
    for i, row in enumerate(setting.rows):
        if row.role == "upper bound" and i and setting.rows[i - 1].role != "upper bound":
            lines.append("\\midrule")
        lines += _lines(row)
    return _tabular("lrl" + "r" * (len(HEADS) - 4) + "l", HEADS, lines)


def _lines(row: Row) -> list[str]:
    cells = cells_of(row)
    values = [escaped(cells[0].value), *(_number(cell.value) for cell in cells[1:])]
    if row.role in ("best", "tied"):
        values[FINAL] = f"\\textbf{{{values[FINAL]}}}"
    return [_line(values), _line([_small(cell) for cell in cells])]


def _small(cell: Cell) -> str:
    return f"{{\\tiny {_number(cell.interval)}}}" if cell.interval else ""


def _number(text: str) -> str:
    """Escaped, with minus signs as such."""
    return re.sub(r"-(?=[.\d])", "$-$", escaped(text))


def _tabular(columns: str, heads: Sequence[str], lines: Sequence[str]) -> str:
    return "\n".join(
        [
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            _line([escaped(head) for head in heads]),
            "\\midrule",
            *lines,
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _float(caption: Sequence[str], body: str) -> str:
    return "\n".join(
        [
            "",
            "\\begin{table}",
            "\\centering",
            "\\scriptsize",
            "\\setlength{\\tabcolsep}{3pt}",
            f"\\caption{{{escaped(' '.join(caption))}}}",
            body,
            "\\end{table}",
        ]
    )
