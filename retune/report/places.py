"""Where the names of points stand in a scatter plot, so that no reader needs a list to look them up in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, Literal

SIZE: Final = 9
"""Points of the type."""
LINE: Final = 11
"""Height of a name."""
LETTER: Final = 0.53 * SIZE
"""Width of a letter, at the mean."""
GAP: Final = 7
"""From a point to its name."""
POINT: Final = 4
"""Radius of a point with some room about it."""


@dataclass(frozen=True)
class Place:
    """Where a name begins, or ends if it is aligned right, and the middle of its height."""

    x: float
    y: float
    align: Literal["left", "right"]

    def box(self, name: str) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of a name here."""
        wide = LETTER * len(name)
        left = self.x if self.align == "left" else self.x - wide
        return left, self.y - LINE / 2, left + wide, self.y + LINE / 2


def beside(
    points: Sequence[tuple[float, float]], names: Sequence[str], width: float, height: float
) -> list[Place]:
    """A place for each name, as near to its point as others leave room.

    Args:
        points: From the left and from the top of the plot.
        names: Of each.
        width: Of the plot.
        height: Of the plot; names stay within where they can.
    """
    taken = [(x - POINT, y - POINT, x + POINT, y + POINT) for x, y in points]
    found = []
    for (x, y), name in zip(points, names, strict=True):
        place = next(place for place in _tried(x, y, name, width, height) if _free(place.box(name), taken))
        taken.append(place.box(name))
        found.append(place)
    return found


def _tried(x: float, y: float, name: str, width: float, height: float) -> Iterator[Place]:
    """Places on both sides, ever farther up and down; at last those below the plot, which are free."""
    for k in count():
        for up in (-1, 1) if k else (1,):
            to = y + up * k * LINE / 2
            for place in (Place(x + GAP, to, "left"), Place(x - GAP, to, "right")):
                left, top, right, bottom = place.box(name)
                if to > 2 * height or (left >= 0 and right <= width and top >= 0 and bottom <= height):
                    yield place


def _free(box: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]]) -> bool:
    left, top, right, bottom = box
    return all(right <= a or left >= c or bottom <= b or top >= d for a, b, c, d in taken)
