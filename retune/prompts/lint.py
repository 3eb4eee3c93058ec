"""What is wrong with a prompt bank, row by row."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retune.data.findings import FINDINGS
from retune.errors import UserError
from retune.prompts.bank import POLARITIES, Prompt, numbered
from retune.prompts.negation import ALIKE, fault, folded, likeness, malformed, others

if TYPE_CHECKING:
    from retune.backbones.base import Backbone, TextPath

Rows = Sequence[tuple[int, Prompt]]

_ENDLESS: Final = 4096
"""Words of a text that is longer than any tower takes."""
_BATCH: Final = 128
"""Texts looked at at a time."""


@dataclass(frozen=True)
class Complaint:
    """Something wrong with a prompt.

    Args:
        file: The bank's file.
        row: Its row, from 1.
        finding: What the prompt is about.
        what: What is wrong.
        hint: How to mend it.
    """

    file: str
    row: int
    finding: str
    what: str
    hint: str


def lint(bank: str | os.PathLike[str], *, backbone: Backbone | None = None) -> tuple[Complaint, ...]:
    """Everything wrong with a bank, in the order of its rows.

    Args:
        bank: Name of a packaged bank, or path of a ``.jsonl`` file.
        backbone: Whose text tower the prompts must fit into; it needs the capability ``text-gradients``.

    Raises:
        UserError: If a row is no prompt at all, or the backbone cannot count words.
    """
    file, rows = numbered(bank)
    if not rows:
        raise UserError("holds no prompts", where=file, fix="write one JSON object per row")
    found = [*_missing(rows), *_wording(rows), *_repeated(rows)]
    if backbone is not None:
        found += _too_long(rows, backbone)
    found.sort(key=lambda complaint: complaint[0])
    finding_of = {row: prompt.finding for row, prompt in rows}
    return tuple(Complaint(file, row, finding_of[row], what, hint) for row, what, hint in found)


def _missing(rows: Rows) -> Iterator[tuple[int, str, str]]:
    """Findings without a polarity, at the first row of the finding."""
    for finding in dict.fromkeys(prompt.finding for _, prompt in rows):
        own = [(row, prompt.polarity) for row, prompt in rows if prompt.finding == finding]
        for polarity in POLARITIES:
            if polarity not in {p for _, p in own}:
                yield own[0][0], f"the finding has no {polarity} prompt", f"add a {polarity} one"


def _wording(rows: Rows) -> Iterator[tuple[int, str, str]]:
    known = tuple(dict.fromkeys((*FINDINGS, *(prompt.finding for _, prompt in rows))))
    hints = {
        "negates": "affirm the finding, or make it a negative prompt",
        "does not negate": "negate the finding or describe the normal state, or make it a positive prompt",
    }
    for row, prompt in rows:
        if wrong := malformed(prompt.text):
            yield row, f"the text {wrong}", "write one plain sentence"
        if wrong := fault(prompt.finding, prompt.polarity, prompt.text):
            yield (
                row,
                f"the {prompt.polarity} prompt {wrong}",
                hints.get(wrong, "say so, or change the polarity"),
            )
        if named := others(prompt.finding, prompt.text, known):
            yield row, f"names another finding: {', '.join(named)}", f"speak of {prompt.finding} only"


def _repeated(rows: Rows) -> Iterator[tuple[int, str, str]]:
    """Duplicates anywhere in the bank, near-duplicates within a finding's polarity."""
    first: dict[str, tuple[int, Prompt]] = {}
    earlier: dict[tuple[str, str], list[tuple[int, Prompt]]] = {}
    for row, prompt in rows:
        group = earlier.setdefault((prompt.finding, prompt.polarity), [])
        at, same = first.setdefault(folded(prompt.text), (row, prompt))
        if at != row:
            where = (
                ""
                if (same.finding, same.polarity) == (prompt.finding, prompt.polarity)
                else (f", a {same.polarity} prompt of {same.finding}")
            )
            yield row, f"the same text as in row {at}{where}", "delete one of the two rows"
        else:
            near = next((r for r, p in group if likeness(p.text, prompt.text) >= ALIKE), None)
            if near is not None:
                yield (
                    row,
                    f"nearly the same text as in row {near}",
                    "delete one of the two rows, or vary the wording",
                )
        group.append((row, prompt))


def _too_long(rows: Rows, backbone: Backbone) -> Iterator[tuple[int, str, str]]:
    """Prompts of more word pieces than the text tower reads."""
    if "text-gradients" not in backbone.capabilities:
        raise UserError(
            "does not say how many words its text tower reads",
            where=f"backbone {backbone.name}",
            fix="leave out --backbone, or name one with the capability text-gradients",
        )
    path = backbone.text_path()
    limit, one, two = _lengths(path, [" ".join(["a"] * _ENDLESS), "a", "a a"])
    ends = 2 * one - two
    lengths = _lengths(path, [prompt.text for _, prompt in rows])
    # What is cut has the tower's full length; its words one by one say how long it was.
    for (row, prompt), length in zip(rows, lengths, strict=True):
        if length == limit:
            pieces = ends + sum(n - ends for n in _lengths(path, prompt.text.split()))
            if pieces > limit:
                what = f"has {pieces} word pieces, of which the text tower of {backbone.name} reads {limit}"
                yield row, what, "shorten it"


def _lengths(path: TextPath, texts: Sequence[str]) -> list[int]:
    """Word pieces of each text, start and end included, as far as the tower reads."""
    found: list[int] = []
    for start in range(0, len(texts), _BATCH):
        found += path.embed(texts[start : start + _BATCH])[1].sum(1).tolist()
    return found
