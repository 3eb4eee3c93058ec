"""Every metric of a run, named once: how it is worked out, which way is better, and how it is shown.

What prints, compares, publishes or draws metrics reads this table, so a metric is added here: its formula is a
function of :mod:`retune.metrics.continual` or one like it, and ``scenarios/README.md`` prints its definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike

from retune.metrics import continual
from retune.metrics.binary import Floats
from retune.metrics.facts import Group, LabelFacts

Basis = Literal["auc", "ap", "f1", "ece", "dense"]
"""What a metric is made of: a matrix ``(..., T+1, C)`` of AUROC, average precision or F1 at frozen thresholds; or
``(..., C)``, the calibration error of each label after the last experience; or ``(..., 2, T+1, K)``, a transfer's
headline number of K findings, by the decoder that is fitted anew at every moment and by the one that was kept."""
Where = Literal["run", "suite", "report", "board"]
"""Tables: of one run, of a suite, of a report, of the leaderboard."""
EVERYWHERE: Final[tuple[Where, ...]] = ("run", "suite", "report", "board")


@dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        key: Its name in results.
        heading: Its name in a table.
        meaning: What it says, in a few words.
        basis: What it is made of.
        of: Its formula, a function of the basis and of what the training images say of each label.
        definition: The formula as it is printed, of R[i, c] after experience i of T.
        better: Which way is better.
        low: The least it can be.
        compared: Whether methods are compared by it, paired over test patients.
        published: Whether the leaderboard publishes it.
        shown: In which tables it stands.
        later: Whether results and entries may lack it, having been made before there was such a metric: then it
            is worked out from what they hold, without an interval. A metric that is added says so.
    """

    key: str
    heading: str
    meaning: str
    basis: Basis
    of: Callable[[Floats, LabelFacts], Floats]
    definition: str
    better: Literal["higher", "lower"] = "higher"
    low: Literal[0, -1] = 0
    compared: bool = False
    published: bool = False
    shown: tuple[Where, ...] = ()
    later: bool = False


def _whole(formula: Callable[[Floats], Floats]) -> Callable[[Floats, LabelFacts], Floats]:
    """A formula that asks nothing of the training images."""
    return lambda basis, facts: formula(basis)


def _learnt(formula: Callable[[Floats, ArrayLike], Floats]) -> Callable[[Floats, LabelFacts], Floats]:
    """A formula that asks when each label is first learnt."""
    return lambda basis, facts: formula(basis, facts.first)


def _of_group(group: Group) -> Metric:
    """The final AUC of labels that are about as common; undefined where there are none."""
    share, percent = {
        "head": ("over 10 %", "above 10 %"),
        "medium": ("2 to 10 %", "from 2 to 10 %"),
        "tail": ("under 2 %", "below 2 %"),
    }[group]
    return Metric(
        f"final_auc_{group}", f"{group} AUC", f"labels in {share} of training images",
        "auc", lambda matrix, facts: continual.nan_mean(np.where(facts.among(group), matrix[..., -1, :], np.nan)),
        f"mean over c with training prevalence {percent} of R[T, c]",
        compared=True, published=True, shown=EVERYWHERE, later=True,
    )  # fmt: skip


_FINAL: Final = "mean over c of {}[T, c]"
_AVERAGE: Final = "mean over i >= 1 of the mean over labels seen by then of {}[i, c]"
_FORGETTING: Final = (
    "mean over c with first(c) < T of (max over first(c) <= i < T of {0}[i, c]) - {0}[T, c] "
    "(Chaudhry et al., 2018)"
)
_BACKWARD: Final = "mean over c with first(c) < T of {0}[T, c] - {0}[first(c), c] (Lopez-Paz & Ranzato, 2017)"
_ZERO_SHOT: Final = "mean over c of {}[0, c]"
_GAIN: Final = "mean over c of {0}[T, c] - {0}[0, c]"
_LEARNING: Final = "mean over c with first(c) >= 1 of {0}[first(c), c] - {0}[first(c) - 1, c]"
_FORWARD: Final = "mean over c with first(c) > 1 of {0}[first(c) - 1, c] - {0}[0, c], against zero-shot"

METRICS: Final = (
    Metric(
        "final_auc", "final AUC", "mean over labels at the end",
        "auc", _whole(continual.final_auc), _FINAL.format("R"), compared=True, published=True, shown=EVERYWHERE,
    ),
    Metric(
        "zero_shot_auc", "zero-shot AUC", "mean over labels before any training",
        "auc", _whole(continual.zero_shot), _ZERO_SHOT.format("R"),
        compared=True, published=True, shown=EVERYWHERE, later=True,
    ),
    Metric(
        "gain", "gain", "final minus zero-shot",
        "auc", _whole(continual.gain), _GAIN.format("R"), low=-1,
        compared=True, published=True, shown=EVERYWHERE, later=True,
    ),
    Metric(
        "learning", "learning", "rise in a label's own experience",
        "auc", _learnt(continual.learning), _LEARNING.format("R"), low=-1,
        compared=True, published=True, shown=("run", "suite"), later=True,
    ),
    Metric(
        "average_auc", "average AUC", "mean over time, labels learnt by then",
        "auc", _learnt(continual.average_auc), _AVERAGE.format("R"), compared=True, published=True, shown=EVERYWHERE,
    ),
    Metric(
        "forgetting", "forgetting", "fall from a label's best; 0 is none",
        "auc", _learnt(continual.forgetting), _FORGETTING.format("R"),
        better="lower", low=-1, compared=True, published=True, shown=EVERYWHERE,
    ),
    Metric(
        "backward_transfer", "backward transfer", "change since first learnt",
        "auc", _learnt(continual.backward_transfer), _BACKWARD.format("R"), low=-1,
        compared=True, published=True, shown=("run", "suite"),
    ),
    Metric(
        "forward_transfer", "forward transfer", "against zero-shot, before learnt",
        "auc", _learnt(continual.forward_transfer), _FORWARD.format("R"), low=-1,
        compared=True, published=True, shown=("run",),
    ),
    _of_group("head"),
    _of_group("medium"),
    _of_group("tail"),
    Metric(
        "final_ap", "final AP", "mean average precision at the end",
        "ap", _whole(continual.final_auc), _FINAL.format("AP"), published=True, shown=("run",),
    ),
    Metric(
        "zero_shot_ap", "zero-shot AP", "average precision before any training",
        "ap", _whole(continual.zero_shot), _ZERO_SHOT.format("AP"), published=True, shown=("run",), later=True,
    ),
    Metric(
        "ap_gain", "AP gain", "average precision, final - zero-shot",
        "ap", _whole(continual.gain), _GAIN.format("AP"), low=-1, published=True, shown=("run",), later=True,
    ),
    Metric(
        "ap_learning", "AP learning", "rise of average precision in a label's own experience",
        "ap", _learnt(continual.learning), _LEARNING.format("AP"), low=-1, published=True, later=True,
    ),
    Metric(
        "average_ap", "average AP", "mean average precision over time, labels learnt by then",
        "ap", _learnt(continual.average_auc), _AVERAGE.format("AP"), published=True,
    ),
    Metric(
        "ap_forgetting", "AP forgetting", "fall from a label's best average precision",
        "ap", _learnt(continual.forgetting), _FORGETTING.format("AP"), better="lower", low=-1,
    ),
    Metric(
        "ap_backward_transfer", "AP backward transfer", "change of average precision since first learnt",
        "ap", _learnt(continual.backward_transfer), _BACKWARD.format("AP"), low=-1,
    ),
    Metric(
        "ap_forward_transfer", "AP forward transfer", "average precision against zero-shot, before learnt",
        "ap", _learnt(continual.forward_transfer), _FORWARD.format("AP"), low=-1,
    ),
    Metric(
        "final_f1", "final F1", "thresholds frozen when first learnt",
        "f1", _whole(continual.final_auc), _FINAL.format("F1"), shown=("run",),
    ),
    Metric(
        "f1_forgetting", "F1 forgetting", "fall from a label's best F1",
        "f1", _learnt(continual.forgetting), _FORGETTING.format("F1"), better="lower", low=-1,
    ),
    Metric(
        "calibration_error", "calibration error", "of scores as logits; lower is better",
        "ece", _whole(continual.nan_mean), "mean over c of the expected calibration error after experience T, 15 bins",
        better="lower", published=True, shown=("run",),
    ),
)  # fmt: skip
"""In the order in which they are shown."""


def _dense(
    key: str, heading: str, meaning: str, definition: str, *, falls: bool, low: Literal[0, -1] = -1
) -> Metric:
    """One of the numbers that sum up a transfer."""
    return Metric(
        key, heading, meaning, "dense",
        lambda basis, facts: continual.over_time(basis[..., 0, :, :], basis[..., 1, :, :])[key],
        definition, better="lower" if falls else "higher", low=low, later=True,
    )  # fmt: skip


DENSE: Final = (
    _dense("dense_final", "dense final", "mean over findings at the end", "mean over k of S[T, k]", falls=False, low=0),
    _dense(
        "dense_transfer", "dense transfer", "final minus before training", "mean over k of S[T, k] - S[0, k]", falls=False
    ),
    _dense(
        "dense_forgetting", "dense forgetting", "fall from a finding's best; 0 is none",
        "mean over k of (max over i < T of S[i, k]) - S[T, k]", falls=True,
    ),
    _dense(
        "head_drift", "head drift", "fall of the first probe, kept as it was",
        "mean over k of K[0, k] - K[T, k], K being S of the probe that was fitted first and kept", falls=True,
    ),
)  # fmt: skip
"""Of runs that have a transfer, beside all others: of S[i, k], its headline number of finding k after experience i."""

COMPARED: Final = tuple(metric for metric in METRICS if metric.compared)
PUBLISHED: Final = tuple(metric for metric in METRICS if metric.published)
BY_KEY: Final = {metric.key: metric for metric in (*METRICS, *DENSE)}
DECIDES: Final = BY_KEY["final_auc"]
"""What methods are ranked by."""
ZERO_SHOT: Final = BY_KEY["zero_shot_auc"]
"""The same before any training."""
GAIN: Final = BY_KEY["gain"]
"""By how much the one is above the other."""


def in_table(where: Where) -> tuple[Metric, ...]:
    """The metrics of a table, in order: a suite's holds what is compared, the leaderboard's what is published.

    What nothing in a table has a value of, as of an empty group of labels, is left out where it is shown.
    """
    able = {"suite": COMPARED, "board": PUBLISHED}.get(where, METRICS)
    return tuple(metric for metric in able if where in metric.shown)
