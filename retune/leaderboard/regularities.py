"""Regularities that honest scores do not have: the answers among them, constants, copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

FEW: Final = 5
"""Images of a class below which a perfect AUC may be luck."""
BITS: Final = 8
"""Last bits of a score in which an answer could be hidden."""
LIKE: Final = 0.5
"""Correlation of such a bit with the answers that chance does not give."""
KNOWN: Final = 200
"""Images below which a bit may correlate by chance."""


def regularities(
    scores: npt.NDArray[np.float32], targets: npt.NDArray[np.float32], labels: Sequence[str]
) -> Iterator[str]:
    """What is suspicious about the scores of one run, a line for each kind.

    Args:
        scores: ``(T+1, N, C)``.
        targets: ``(N, C)`` of the test images.
        labels: Names of the C labels.
    """
    constant = (scores == scores[:, :1]).all(axis=1)
    perfect, hidden = set(), set()
    for c in range(len(labels)):
        known = ~np.isnan(targets[:, c])
        truth = targets[known, c] == 1
        if min(truth.sum(), (~truth).sum()) < FEW:
            continue
        for moment in scores[:, known, c]:
            if moment[truth].min() > moment[~truth].max():
                perfect.add(c)
            elif len(truth) >= KNOWN and _in_last_bits(moment, truth):
                hidden.add(c)
    if perfect:
        yield f"scores contain the labels, or an AUC of 1 that no method reaches: {_names(labels, perfect)}"
    if hidden:
        yield f"the last bits of scores contain the labels: {_names(labels, hidden)}"
    if constant.any():
        yield f"scores are constant: {_names(labels, np.flatnonzero(constant.any(axis=0)).tolist())}"


def _in_last_bits(moment: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]) -> bool:
    """Whether one of the last bits says which images have the finding."""
    bits = (_steps(moment)[:, None] >> np.arange(BITS, dtype=np.uint32)) & 1
    centred = bits - bits.mean(axis=0)
    answer = truth - truth.mean()
    spread = np.sqrt((centred**2).sum(axis=0) * (answer**2).sum())
    like = np.abs(answer @ centred) / np.maximum(spread, 1e-12)
    # A coarse score is all last bits: then a bit is no hiding place but the score itself.
    return bool((like > LIKE).any()) and len(np.unique(moment)) > 2**BITS


def _steps(moment: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Scores as they are written: whole steps of sixteen bits."""
    low, high = float(moment.min()), float(moment.max())
    width = high - low if high > low else 1.0
    found: npt.NDArray[np.uint32] = np.rint((moment - low) / width * (2**16 - 1)).astype(np.uint32)
    return found


def _names(labels: Sequence[str], columns: Sequence[int] | set[int]) -> str:
    named = [labels[c] for c in sorted(columns)]
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
