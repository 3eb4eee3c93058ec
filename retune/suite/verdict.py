"""What a table comes to, in words that its intervals bear out: who is best, who is tied, how far from zero-shot and
from an upper bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retune.metrics.table import DECIDES, GAIN, ZERO_SHOT
from retune.results.text import listed, number
from retune.results.verdict import CHANCE
from retune.suite.layout import span

if TYPE_CHECKING:
    from retune.results.compare import Estimate
    from retune.suite.summary import Row, Setting


def verdict(setting: Setting) -> str:
    """What the table of one stream comes to; nothing where no continual method has a final AUC."""
    best = next((row for row in setting.rows if row.role == "best"), None)
    if best is None:
        return ""
    told = [
        _who(best, setting.rows),
        _how_far(best, setting),
        *_others(best, setting.rows),
        _floors(best, setting.rows),
    ]
    return " ".join(filter(None, told))


def _who(best: Row, rows: Sequence[Row]) -> str:
    final = best.metrics[DECIDES.key]
    ends = f"{best.strategy} ends at a {DECIDES.heading} of {number(final.mean)} ({span(final)})"
    others = [row for row in rows if row.role != "best" and not row.bound]
    tied = [row.strategy for row in others if row.role == "tied"]
    if not others:
        return f"{ends}."
    if not tied:
        return f"{ends}, the best of {1 + len(others)}, tied with none."
    return f"{ends}, the best of {1 + len(others)}; tied with it: {listed(tied)}."


def _how_far(best: Row, setting: Setting) -> str:
    """Of the best method: from zero-shot, where it is not zero-shot itself, and to an upper bound."""
    start, gain = best.metrics.get(ZERO_SHOT.key), best.metrics.get(GAIN.key)
    if start is None or gain is None or gain.mean is None:
        return ""
    bound = next((row for row in setting.rows if row.role == "upper bound"), None)
    end = f"{bound.strategy} ({number(bound.metrics[DECIDES.key].mean)})" if bound else ""
    if _standing(gain) == "at":
        return f"Upper bound: {end}." if bound else ""
    began = "zero-shot" if start.mean != CHANCE else "chance, where it began,"
    told = f"That is {_standing(gain)} {began} ({number(start.mean)}"
    told += f"; {number(gain.mean, signed=True)}, {span(gain, signed=True)})" if gain.mean else ")"
    if bound is None:
        return f"{told}."
    share = best.share
    if share is None or share.mean is None:
        return f"{told}. Upper bound: {end}."
    ends = (
        ""
        if share.low is None or share.high is None
        else f" ({_percent(share.low)} to {_percent(share.high)})"
    )
    return f"{told} and {_percent(share.mean)} %{ends} of the way from zero-shot to {end}."


def _others(best: Row, rows: Sequence[Row]) -> list[str]:
    """Which other methods gained nothing."""
    found = []
    for standing, words in (
        ("below", "Below zero-shot"),
        ("not distinguishable from", "Not told from zero-shot"),
    ):
        names = [
            row.strategy
            for row in rows
            if row.role != "best"
            and not row.bound
            and (gain := row.metrics.get(GAIN.key)) is not None
            and gain.mean is not None
            and row.metrics[ZERO_SHOT.key].mean != CHANCE
            and _standing(gain) == standing
        ]
        if names:
            found.append(f"{words}: {listed(names)}.")
    return found


def _floors(best: Row, rows: Sequence[Row]) -> str:
    """Which floors the best method is not above."""
    reached = [
        f"{row.strategy} ({number(row.metrics[DECIDES.key].mean)})"
        for row in rows
        if row.role == "floor" and (high := row.to_best[DECIDES.key].high) is not None and high >= 0
    ]
    return f"{best.strategy} is not told from a floor: {listed(reached)}." if reached else ""


def _standing(gain: Estimate) -> str:
    """Where an interval lies; a gain of nothing, resample by resample, is zero-shot itself."""
    if gain.low is None or gain.high is None:
        return "not compared with"
    if gain.low > 0:
        return "above"
    if gain.high < 0:
        return "below"
    return "not distinguishable from" if gain.high > gain.low else "at"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
