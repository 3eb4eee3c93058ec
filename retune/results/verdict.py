"""What a run's numbers come to: one sentence, and which labels are no better than chance, both made from intervals."""

from __future__ import annotations

from typing import Final, Literal

from retune.results.result import MetricRecord, Result
from retune.results.text import listed, number
from retune.results.transfers import measured

CHANCE: Final = 0.5
"""The AUC of scores that know nothing."""
Standing = Literal["below", "at", "above", "undefined"]


def standings(result: Result) -> list[Standing]:
    """How the final AUC of each label stands to chance: its interval lies below .5, holds it, or lies above."""
    return [_standing(low, high) for low, high in zip(result.auc_low[-1], result.auc_high[-1], strict=True)]


def _standing(low: float | None, high: float | None) -> Standing:
    if low is None or high is None:
        return "undefined"
    return "below" if high < CHANCE else "at" if low <= CHANCE else "above"


def verdict(result: Result) -> str | None:
    """Whether the run ended above zero-shot, what it forgot, which labels are ruined or no better than chance, and what
    became of its transfer.

    A label is ruined that the whole interval of its final AUC lies below what it had before any training.

    Returns:
        A sentence; None where the gain has no interval, as in a result that was made before there was one.
    """
    gain = result.metric("gain")
    if gain.low is None:
        return None
    if all(row == result.auc_matrix[0] for row in result.auc_matrix):
        told = ["Nothing is learnt"]
    else:
        told = [_gained(gain, _began(result)), *_forgotten(result), *_ruined(result)]
    return f"{'; '.join([*told, *_chance(result), *_outlined(result)])}."


def _began(result: Result) -> str:
    """What a method knows before any training: zero-shot, or nothing, where all images have one score."""
    known = [auc for auc in result.auc_matrix[0] if auc is not None]
    return "chance, where it began," if all(auc == CHANCE for auc in known) else "zero-shot"


def _gained(gain: MetricRecord, began: str) -> str:
    value, low, high = _known(gain)
    if low > 0:
        return f"Final AUC is above {began} by {number(value)} ({number(low)} to {number(high)})"
    if high < 0:
        return f"Final AUC is below {began} by {number(-value)} ({number(-high)} to {number(-low)})"
    return f"Final AUC is not distinguishable from {began.rstrip(',')} ({_signed(gain)})"


def _forgotten(result: Result) -> list[str]:
    """Nothing where no label is learnt before the last experience: nothing can be forgotten."""
    lost = result.metric("forgetting")
    if lost.low is None:
        return []
    value, low, high = _known(lost)
    if low > 0:
        most, label = max(
            (v, name) for v, name in zip(result.forgetting, result.labels, strict=True) if v is not None
        )
        return [
            f"{number(value)} was forgotten ({number(low)} to {number(high)}), most of {label} ({number(most)})"
        ]
    if high < 0 or value == low == high == 0:
        return [f"nothing was forgotten ({_signed(lost)})" if value else "nothing was forgotten"]
    return [f"forgetting is not distinguishable from 0 ({_signed(lost)})"]


def _ruined(result: Result) -> list[str]:
    """Labels that surely ended below zero-shot, the deepest fall first; those that began at chance are told below."""
    ends = zip(result.labels, result.auc_matrix[0], result.auc_matrix[-1], result.auc_high[-1], strict=True)
    falls = [
        (start - end, label)
        for label, start, end, high in ends
        if start is not None and end is not None and high is not None and high < start != CHANCE
    ]
    names = [label for _, label in sorted(falls, reverse=True)]
    return [f"ended below zero-shot: {listed(names)}"] if names else []


def _chance(result: Result) -> list[str]:
    found = list(zip(standings(result), result.labels, strict=True))
    told = {
        words: ", ".join(label for standing, label in found if standing == which)
        for which, words in (("below", "below chance"), ("at", "not distinguishable from chance"))
    }
    return [f"{words}: {labels}" for words, labels in told.items() if labels] or [
        "no label is at chance or below"
    ]


def _outlined(result: Result) -> list[str]:
    """What became of a transfer's headline number; nothing where no finding has one."""
    of, gained = measured(result), result.metric("dense_transfer")
    if of is None or gained.low is None:
        return []
    what = f"the {of.headline} of {of.name}"
    if not of.moves:
        return [f"{what} is the frozen backbone's"]
    value, low, high = _known(gained)
    told = f"{what} is not distinguishable from before training ({_signed(gained)})"
    if low > 0:
        told = f"{what} rose by {number(value)} ({number(low)} to {number(high)})"
    elif high < 0:
        told = f"{what} fell by {number(-value)} ({number(-high)} to {number(-low)})"
    value, low, high = _known(result.metric("head_drift"))
    drifted = f", the probe that was fitted first lost {number(value)} ({number(low)} to {number(high)})"
    return [told + (drifted if low > 0 else "")]


def _signed(measured: MetricRecord) -> str:
    value, low, high = (number(one, signed=True) for one in _known(measured))
    return f"{value}, {low} to {high}"


def _known(measured: MetricRecord) -> tuple[float, float, float]:
    assert measured.value is not None
    assert measured.low is not None
    assert measured.high is not None
    return measured.value, measured.low, measured.high
