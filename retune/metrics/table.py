"""Every metric of a run, named once: how it is worked out, which way is better, and how it is shown.

What prints, compares, publishes or draws metrics reads this table, so a metric is added here: its formula is a
function of :mod:`retune.metrics.continual` or one like it, and ``scenarios/README.md`` prints its definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retune.metrics import continual
from retune.metrics.binary import Floats

Firsts = NDArray[np.signedinteger[Any]]
Basis = Literal["auc", "ap", "f1", "ece"]
"""What a metric is made of: a matrix ``(..., T+1, C)`` of AUROC, average precision or F1 at frozen thresholds; or
``(..., C)``, the calibration error of each label after the last experience."""
Where = Literal["run", "suite", "report", "board"]
"""Tables: of one run, of a suite, of a report, of the leaderboard."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Args:
        key: Its name in results.
        heading: Its name in a table.
        meaning: What it says, in a few words.
        basis: What it is made of.
        of: Its formula, a function of the basis and of ``first`` (C,), of :func:`continual.first_learnt`.
        definition: The formula as it is printed, of R[i, c] after experience i of T.
        better: Which way is better.
        low: The least it can be.
        compared: Whether methods are compared by it, paired over test patients.
        published: Whether the leaderboard publishes it.
        shown: In which tables it stands.
        later: Whether results and entries may lack it, having been made before there was such a metric: then it
            is undefined. A metric that is added says so.
    """

    key: str
    heading: str
    meaning: str
    basis: Basis
    of: Callable[[Floats, ArrayLike], Floats]
    definition: str
    better: Literal["higher", "lower"] = "higher"
    low: Literal[0, -1] = 0
    compared: bool = False
    published: bool = False
    shown: tuple[Where, ...] = ()
    later: bool = False


def _final(matrix: Floats, first: ArrayLike) -> Floats:
    return continual.final_auc(matrix)


def _mean(values: Floats, first: ArrayLike) -> Floats:
    return continual.nan_mean(values)


_FINAL: Final = "mean over c of {}[T, c]"
_AVERAGE: Final = "mean over i >= 1 of the mean over labels seen by then of {}[i, c]"
_FORGETTING: Final = (
    "mean over c with first(c) < T of (max over first(c) <= i < T of {0}[i, c]) - {0}[T, c] "
    "(Chaudhry et al., 2018)"
)
_BACKWARD: Final = "mean over c with first(c) < T of {0}[T, c] - {0}[first(c), c] (Lopez-Paz & Ranzato, 2017)"
_FORWARD: Final = "mean over c with first(c) > 1 of {0}[first(c) - 1, c] - {0}[0, c], against zero-shot"

EVERYWHERE: Final[tuple[Where, ...]] = ("run", "suite", "report", "board")
METRICS: Final = (
    Metric(
        "final_auc", "final AUC", "mean over labels at the end",
        "auc", _final, _FINAL.format("R"), compared=True, published=True, shown=EVERYWHERE,
    ),
    Metric(
        "average_auc", "average AUC", "mean over time, labels learnt by then",
        "auc", continual.average_auc, _AVERAGE.format("R"), compared=True, published=True, shown=EVERYWHERE,
    ),
    Metric(
        "forgetting", "forgetting", "fall from a label's best; 0 is none",
        "auc", continual.forgetting, _FORGETTING.format("R"),
        better="lower", low=-1, compared=True, published=True, shown=EVERYWHERE,
    ),
    Metric(
        "backward_transfer", "backward transfer", "change since first learnt",
        "auc", continual.backward_transfer, _BACKWARD.format("R"), low=-1,
        compared=True, published=True, shown=("run", "suite"),
    ),
    Metric(
        "forward_transfer", "forward transfer", "against zero-shot, before learnt",
        "auc", continual.forward_transfer, _FORWARD.format("R"), low=-1, compared=True, published=True, shown=("run",),
    ),
    Metric(
        "final_ap", "final AP", "mean average precision at the end",
        "ap", _final, _FINAL.format("AP"), published=True, shown=("run",),
    ),
    Metric(
        "average_ap", "average AP", "mean average precision over time, labels learnt by then",
        "ap", continual.average_auc, _AVERAGE.format("AP"), published=True,
    ),
    Metric(
        "ap_forgetting", "AP forgetting", "fall from a label's best average precision",
        "ap", continual.forgetting, _FORGETTING.format("AP"), better="lower", low=-1,
    ),
    Metric(
        "ap_backward_transfer", "AP backward transfer", "change of average precision since first learnt",
        "ap", continual.backward_transfer, _BACKWARD.format("AP"), low=-1,
    ),
    Metric(
        "ap_forward_transfer", "AP forward transfer", "average precision against zero-shot, before learnt",
        "ap", continual.forward_transfer, _FORWARD.format("AP"), low=-1,
    ),
    Metric(
        "final_f1", "final F1", "thresholds frozen when first learnt",
        "f1", _final, _FINAL.format("F1"), shown=("run",),
    ),
    Metric(
        "f1_forgetting", "F1 forgetting", "fall from a label's best F1",
        "f1", continual.forgetting, _FORGETTING.format("F1"), better="lower", low=-1,
    ),
    Metric(
        "calibration_error", "calibration error", "of scores as logits; lower is better",
        "ece", _mean, "mean over c of the expected calibration error after experience T, 15 bins",
        better="lower", published=True, shown=("run",),
    ),
)  # fmt: skip
"""In the order in which they are shown."""

COMPARED: Final = tuple(metric for metric in METRICS if metric.compared)
PUBLISHED: Final = tuple(metric for metric in METRICS if metric.published)
BY_KEY: Final = {metric.key: metric for metric in METRICS}
DECIDES: Final = BY_KEY["final_auc"]
"""What methods are ranked by."""


def in_table(where: Where) -> tuple[Metric, ...]:
    """The metrics of a table, in order: a suite's holds what is compared, the leaderboard's what is published."""
    able = {"suite": COMPARED, "board": PUBLISHED}.get(where, METRICS)
    return tuple(metric for metric in able if where in metric.shown)
