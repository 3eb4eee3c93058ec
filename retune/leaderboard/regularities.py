"""Regularities that honest scores do not have: the answers among them, constants, copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

FEW: Final = 20
"""Images of a class below which a perfect AUC may be luck."""
BITS: Final = 8
"""Last bits of a score in which an answer could be hidden."""
LEVELS: Final = 64
"""Values that the bits above must tell apart: of a coarse score the last bits are the score itself."""
BLOCK: Final = 16
"""Images of nearly the same score that are compared with each other."""
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
    # At the end: before a label is learnt, many methods honestly know nothing of it.
    constant = np.flatnonzero((scores[-1] == scores[-1][0]).all(axis=0)).tolist()
    perfect, hidden = set(), set()
    for c in range(len(labels)):
        known = ~np.isnan(targets[:, c])
        truth = targets[known, c] == 1
        if min(truth.sum(), (~truth).sum()) < FEW:
            continue
        # Moments at which a label's scores did not change are looked at once.
        for moment in {one.tobytes(): one for one in scores[:, :, c]}.values():
            if moment[known][truth].min() > moment[known][~truth].max():
                perfect.add(c)
            elif len(truth) >= KNOWN and _in_last_bits(_steps(moment)[known], truth):
                hidden.add(c)
    if perfect:
        yield f"scores contain the labels, or an AUC of 1 that no method reaches: {_names(labels, perfect)}"
    if hidden:
        yield f"the last bits of scores contain the labels: {_names(labels, hidden)}"
    if constant:
        yield f"scores are constant: {_names(labels, constant)}"


def _in_last_bits(steps: npt.NDArray[np.int64], truth: npt.NDArray[np.bool_]) -> bool:
    """Whether one of the last bits says which of several images with nearly the same score have the finding.

    Only among such images: a score that is cut off at its highest value has one last bit for many images with the
    finding, and hides nothing.
    """
    whole = len(steps) // BLOCK * BLOCK
    rising = np.sort(steps)
    for bit in range(BITS):
        above = steps >> (bit + 1)
        if np.count_nonzero(np.diff(rising >> (bit + 1))) + 1 < LEVELS:
            break
        order = np.argsort(above, kind="stable")[:whole]
        bits = ((steps[order] >> bit) & 1).reshape(-1, BLOCK)
        answers = truth[order].reshape(-1, BLOCK)
        ones, positive = bits.sum(axis=1), answers.sum(axis=1)
        mixed = (ones % BLOCK > 0) & (positive % BLOCK > 0)
        if mixed.sum() * BLOCK < KNOWN:
            continue
        # Sums over each block of what is left when its mean is taken away.
        together = ((bits * answers).sum(axis=1) - ones * positive / BLOCK)[mixed].sum()
        apart = [(n - n**2 / BLOCK)[mixed].sum() for n in (ones, positive)]
        if abs(together) > LIKE * np.sqrt(apart[0] * apart[1]):
            return True
    return False


def _steps(moment: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Scores as they are written: whole steps of sixteen bits."""
    wide = moment.astype(np.float64)
    low, high = wide.min(), wide.max()
    width = high - low if high > low else 1.0
    found: npt.NDArray[np.int64] = np.rint((wide - low) / width * (2**16 - 1)).astype(np.int64)
    return found


def _names(labels: Sequence[str], columns: Sequence[int] | set[int]) -> str:
    named = [labels[c] for c in sorted(columns)]
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
