"""What a reader should know before believing an entry's numbers."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from retune.leaderboard.entry import Entry
from retune.leaderboard.regularities import regularities
from retune.streams.stream import Stream

ENOUGH: Final = 3
"""Seeds below which a deviation says little."""


def suspicions(entry: Entry, scores: npt.NDArray[np.float32] | None, stream: Stream | None) -> list[str]:
    """What a reader should know before believing an entry's numbers, a line each.

    Args:
        entry: The entry.
        scores: ``(R, T+1, N, C)`` in the order of the stream's test images, where the data is there.
        stream: Holds the test images' labels.
    """
    found = []
    many = len(entry.runs)
    if many < ENOUGH:
        found.append(few_seeds(many))
    orders = {tuple(run.first) for run in entry.runs}
    if many > 1 and len(orders) == 1 and max(orders.pop()) > 1:
        found.append("one label order: every seed learns the labels in the same order")
    backbone = entry.backbone
    if backbone.contaminated != "no":
        may = "was" if backbone.contaminated == "yes" else "may have been"
        found.append(f"contaminated: {backbone.name} {may} pre-trained on this data")
    if entry.data.repeated_images:
        found.append(f"of the test images, {entry.data.repeated_images:,} are training images too")
    if entry.data.unreadable_images:
        found.append(f"images that could not be read and were left out: {entry.data.unreadable_images:,}")
    if backbone.looked_up:
        found.append("features were looked up by image id; no picture was looked at")
    missing = [entry.labels[c] for c, final in enumerate(entry.runs[0].auc_matrix[-1]) if final is None]
    if missing:
        found.append(
            f"labels without an AUC: {', '.join(missing[:5])}" + (" ..." if len(missing) > 5 else "")
        )
    unseen = [entry.labels[c] for c, first in enumerate(entry.runs[0].first) if first == 0]
    if unseen:
        found.append(
            f"labels that no experience shows: {', '.join(unseen[:5])}" + (" ..." if len(unseen) > 5 else "")
        )
    if scores is not None and stream is not None:
        per_run = [regularities(one, stream.targets, entry.labels) for one in scores]
        found += dict.fromkeys(line for lines in per_run for line in lines)
        same = [
            (entry.runs[a].seed, entry.runs[b].seed)
            for a in range(many)
            for b in range(a + 1, many)
            if np.array_equal(scores[a], scores[b])
        ]
        if same and not entry.strategy.sees_everything:
            found.append(
                f"seeds {same[0][0]} and {same[0][1]} have the same scores: the seed decides nothing"
            )
    return found


def few_seeds(many: int) -> str:
    """What is to be said of fewer than :data:`ENOUGH` seeds."""
    return f"{many} {'seed' if many == 1 else 'seeds'} only; {ENOUGH} or more tell how results vary"
