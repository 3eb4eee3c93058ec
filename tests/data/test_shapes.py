"""Masks of boxes and polygons, against hand-worked ones."""

from __future__ import annotations

import numpy as np
import pytest

from retune.data.shapes import boxes_mask, polygons_mask


def drawn(text: str) -> np.ndarray:
    return np.array([[sign == "#" for sign in line] for line in text.split()])


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([[0, 0, 1, 1]], "#.... ..... ....."),
        ([[1, 1, 4, 3]], "..... .###. .###."),
        ([[0, 0, 5, 3]], "##### ##### #####"),
        # The middle of a pixel decides.
        ([[0.6, 0.4, 2.4, 1.6]], ".#... .#... ....."),
        # Too thin to hold the middle of any: one pixel all the same, inside the picture.
        ([[2.1, 1.1, 2.2, 1.2], [4.9, 2.9, 5, 3]], "..... ..#.. ....#"),
        ([[0, 0, 2, 1], [1, 0, 2, 3]], "##... .#... .#..."),
        ([], "..... ..... ....."),
    ],
)
def test_boxes(boxes: list[list[float]], expected: str) -> None:
    np.testing.assert_array_equal(boxes_mask(np.array(boxes), (3, 5)), drawn(expected))


@pytest.mark.parametrize(
    ("polygons", "expected"),
    [
        ([[[1, 0], [3, 0], [3, 2], [1, 2]]], ".###. .###. .###. ....."),
        ([[[0, 0], [3, 0], [0, 3]]], "####. ###.. ##... #...."),
        ([[[0, 0], [1, 0], [0, 1]], [[4, 3], [3, 3], [4, 2]]], "##... #.... ....# ...##"),
        ([], "..... ..... ..... ....."),
    ],
)
def test_polygons(polygons: list[list[list[float]]], expected: str) -> None:
    found = polygons_mask([np.array(polygon) for polygon in polygons], (4, 5))
    np.testing.assert_array_equal(found, drawn(expected))


def test_a_polygon_of_any_shape_has_its_area() -> None:
    rng = np.random.default_rng(0)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 60))
    radius = rng.uniform(60, 110, 60)
    corners = np.stack([128 + radius * np.cos(angle), 120 + radius * np.sin(angle)], axis=1)
    x, y = corners.T
    area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
    border = np.hypot(*(corners - np.roll(corners, 1, axis=0)).T).sum()
    # Half a pixel of the line belongs to it, on either side.
    assert 0 < polygons_mask([corners], (240, 256)).sum() - area < border
