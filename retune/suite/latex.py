"""A suite's tables for a paper: LaTeX with booktabs, intervals in a line of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import Final

from retune.metrics.table import DECIDES
from retune.results.result import Bootstrap
from retune.suite.layout import (
    COSTS,
    NAMES,
    RANK_HEADS,
    Cell,
    cells_of,
    failed_lines,
    heads_of,
    notes,
    rank_lines,
    rank_rows,
    reading,
    title,
)
from retune.suite.summary import Row, Setting, Summary

NAME: Final = 20
"""Characters of a method's name in a line; the rest stands below, beside the intervals."""
ACROSS: Final = 5
"""Columns of metrics beside each other."""
PAGE: Final = 50
"""Lines of a table that a page has room for below a caption."""
ESCAPES: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # Two are one long dash, and in German this quotation mark is a command.
    "--": "-{}-",
    '"': "''",
    # After a line's end LaTeX takes these for its options.
    "[": "{[}",
    "*": "{*}",
    "±": r"$\pm$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def latex(summary: Summary) -> str:
    r"""The tables as floats that need ``\usepackage{booktabs}`` and nothing else, as wide as a page of text.

    The best method and all that are tied with it are bold; bounds stand apart, below a rule.
    """
    parts = [_comment(line) for line in ("\\usepackage{booktabs}", *reading(summary.bootstrap))]
    parts += [_comment(line) for line in failed_lines(summary)]
    for setting in summary.settings:
        # All columns in one table would be several times as wide as a page.
        quality = heads_of(setting)[len(NAMES) : -len(COSTS)]
        for k in range(0, len(quality), ACROSS):
            told = [f"{title(setting)}: other metrics."] if k else _caption(setting, summary.bootstrap)
            parts += _floats(told, setting, [NAMES[1], *quality[k : k + ACROSS]])
        parts += _floats([f"{title(setting)}: what it costs."], setting, COSTS)
    ranked = rank_rows(summary.ranks)
    if ranked:
        lines = [_line([escaped(text) for text in row]) for row in ranked]
        parts.append(_float(["Ranks over streams.", *rank_lines(summary.ranks)], "lrl", RANK_HEADS, lines))
    else:
        parts += [_comment(line) for line in rank_lines(summary.ranks)]
    return "\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text in which LaTeX sees no command."""
    return re.sub("|".join(map(re.escape, ESCAPES)), lambda found: ESCAPES[found[0]], _in_a_line(text))


def _comment(text: str) -> str:
    return f"% {_in_a_line(text)}"


def _in_a_line(text: str) -> str:
    """Text without line ends, which would end a comment, and without what LaTeX takes for no text at all."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _caption(setting: Setting, bootstrap: Bootstrap) -> list[str]:
    return [
        f"{title(setting)}.",
        f"Mean ± standard deviation over n seeds; small: {100 * bootstrap.level:g} % interval over resampled test "
        "patients. Bold: best, or tied with it.",
        *setting.cautions,
        *notes(setting),
    ]


def _floats(caption: Sequence[str], setting: Setting, heads: Sequence[str]) -> list[str]:
    """A setting's rows in as many floats as they need: what is longer than a page would be cut off."""
    parts: list[list[str]] = [[]]
    for i, row in enumerate(setting.rows):
        lines = _lines(row, setting, heads)
        if row.bound and i and not setting.rows[i - 1].bound:
            lines.insert(0, "\\midrule")
        if len(parts[-1]) + len(lines) > PAGE:
            parts.append([])
        parts[-1] += lines
    columns = "l" + "".join("l" if head == "kept" else "r" for head in heads)
    captions = [list(caption), *[[f"{title(setting)}, continued."]] * (len(parts) - 1)]
    return [
        _float(told, columns, (NAMES[0], *heads), lines) for told, lines in zip(captions, parts, strict=True)
    ]


def _lines(row: Row, setting: Setting, heads: Sequence[str]) -> list[str]:
    """A row's values, its intervals below them, and in the first column the name in as many lines as it takes."""
    name, *cells = cells_of(row, setting)
    chosen = {head: cell for head, cell in zip(heads_of(setting)[1:], cells, strict=True) if head in heads}
    values = {head: _number(cell.value) for head, cell in chosen.items()}
    if row.role in ("best", "tied") and DECIDES.heading in values:
        values[DECIDES.heading] = f"\\textbf{{{values[DECIDES.heading]}}}"
    lines = [[*values.values()]]
    if any(cell.interval for cell in chosen.values()):
        lines.append([_small(cell) for cell in chosen.values()])
    names = wrap(_in_a_line(name.value), NAME) or [""]
    blank = [""] * len(chosen)
    return [
        _line([escaped(part), *(line or blank)]) for part, line in zip_longest(names, lines, fillvalue="")
    ]


def _small(cell: Cell) -> str:
    return f"{{\\tiny {_number(cell.interval)}}}" if cell.interval else ""


def _number(text: str) -> str:
    """Escaped, with minus signs as such, and a dash for what is undefined."""
    return re.sub(r"(?<!\S)-(?!\S)", "--", re.sub(r"-(?=[.\d])", "$-$", escaped(text)))


def _head(text: str) -> str:
    """A column's head; a long one in two lines."""
    folded = escaped(text).replace(" ", r"\\", 1)
    return rf"\shortstack[r]{{{folded}}}" if len(text) > len("average AUC") else escaped(text)


def _line(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _float(caption: Sequence[str], columns: str, heads: Sequence[str], lines: Sequence[str]) -> str:
    """A table below its caption."""
    above = ["", r"\begin{table}", r"\centering", r"\scriptsize", r"\setlength{\tabcolsep}{3pt}"]
    above += [r"\setlength{\belowcaptionskip}{4pt}", rf"\caption{{{escaped(' '.join(caption))}}}"]
    table = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line([_head(head) for head in heads]),
        r"\midrule",
    ]
    below = [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join([*above, *table, *lines, *below])
