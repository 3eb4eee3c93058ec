"""Scenarios in which labels arrive over time, so that experiences hide some."""

from __future__ import annotations

from dataclasses import dataclass, field

from retune.settings import LATER
from retune.streams.stream import Hidden, Scenario


@dataclass(frozen=True)
class LabelArrival(Scenario):
    """A scenario whose experiences observe labels of their own and hide others.

    Args:
        hidden: What a label that an experience does not observe looks like: masked is unknown; absent reads as 0, as
            much of the field has it.
    """

    hidden: Hidden = field(default="masked", kw_only=True, metadata=LATER)
