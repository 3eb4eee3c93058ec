"""Report texts: what a radiologist might have dictated about each synthetic exam."""

from __future__ import annotations

from typing import Final

import numpy.typing as npt

from retune.data.findings import CHEXPERT
from retune.data.phantom.phrases import ABSENT, CLOSING, DEGREES, NORMAL, OPENING, PRESENT, ZONES
from retune.data.phantom.rng import F64
from retune.data.phantom.table import SIDES, Exams

_MENTION: Final = 1.15
"""A finding of severity s is mentioned with chance 0.55 + this * s: mild ones are sometimes overlooked."""


_BOTH_SIDES: Final = (
    ("on the bilateral side", "bilaterally"),
    ("on the bilateral", "bilaterally"),
    ("the bilateral costophrenic angle", "both costophrenic angles"),
    ("the bilateral costophrenic sulcus is", "both costophrenic sulci are"),
    ("the bilateral lung base", "both lung bases"),
    ("the bilateral base", "both bases"),
    ("the bilateral lung", "both lungs"),
    ("the bilateral", "both"),
    ("both upper zone", "both upper zones"),
    ("both mid zone", "both mid zones"),
    ("both lower zone", "both lower zones"),
)
_SENTENCES: Final = 5
"""The most findings and denials that one report holds."""

# Denials that would contradict another finding, though the label they deny is 0.
_MOOT: Final = {1: (2,), 3: (4, 5, 6, 7, 8)}


def reports(exams: Exams, rows: npt.ArrayLike) -> list[str]:
    """Writes a report for each exam, the same every time.

    Args:
        exams: The table.
        rows: (m,) rows of it.

    Returns:
        m texts of two to seven sentences. They name the true findings, the five gravest at most and mild ones
        not always, and deny a random few of the absent ones.
    """
    chosen = exams.checked(rows)
    draws = exams.of_images().only(chosen)
    choice, order = draws.uniform("report", 14 * 4 + 4), draws.uniform("report order", 14)
    return [_report(exams, int(row), choice[k], order[k]) for k, row in enumerate(chosen)]


def _pick(options: tuple[str, ...], draw: float) -> str:
    return options[int(draw * len(options))]


def _report(exams: Exams, row: int, choice: F64, order: F64) -> str:
    said: list[tuple[float, str]] = []
    denied: list[tuple[float, str]] = []
    for k in range(1, 14):
        name, phrase, detail, fate = CHEXPERT[k], choice[4 * k], choice[4 * k + 1], choice[4 * k + 2]
        if exams.labels[row, k] > 0:
            severity = float(exams.severity[row, k])
            if fate < min(1.0, 0.55 + severity * _MENTION):
                # The gravest first, as reports tend to.
                said.append((-severity + 0.3 * order[k], _present(exams, row, k, phrase, detail)))
        elif fate < 0.30 and not any(exams.labels[row, other] > 0 for other in _MOOT.get(k, ())):
            denied.append((order[k], _pick(ABSENT[name], phrase)))
    said.sort()
    denied.sort()
    sentences = [text for _, text in said[:_SENTENCES]]
    sentences += [text for _, text in denied[: max(1, min(3, _SENTENCES - len(sentences)))]]
    if exams.labels[row, 0] > 0:
        sentences.insert(0, _pick(NORMAL, choice[0]))
        if len(sentences) < 2 or choice[1] < 0.5:
            sentences.append(_pick(CLOSING, choice[2]))
    elif len(sentences) < 2 or choice[1] < 0.3:
        opening = _pick(OPENING, choice[2]).format(view=exams.view[row])
        sentences.insert(0, opening)
    return " ".join(text[0].upper() + text[1:] for text in sentences)


def _present(exams: Exams, row: int, k: int, phrase: float, detail: float) -> str:
    side, severity = int(exams.side[row, k]), float(exams.severity[row, k])
    words = DEGREES[0 if severity < 0.35 else 1 if severity < 0.7 else 2]
    where = ZONES[min(2, int(float(exams.zone[row, k]) * 3))]
    text = _pick(PRESENT[CHEXPERT[k]], phrase).format(
        degree=_pick(words, detail), side=SIDES[side] if side >= 0 else "", zone=where
    )
    for wrong, right in _BOTH_SIDES:
        text = text.replace(wrong, right)
    return _articles(text)


def _articles(text: str) -> str:
    """Mends "a extensive" and "an small" where a word was filled in."""
    out: list[str] = []
    for word in text.split():
        if out and out[-1].lower() in ("a", "an"):
            article = "an" if word[0].lower() in "aeiou" else "a"
            out[-1] = article.capitalize() if out[-1][0].isupper() else article
        out.append(word)
    return " ".join(out)
