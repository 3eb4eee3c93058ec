"""What is found of objects: hand-worked cases, and a slow oracle that walks as the papers' code does."""

from __future__ import annotations

import numpy as np
import pytest

from retune.metrics import patient_weights
from retune.metrics.localisation import (
    IOUS,
    RATES,
    average_precision,
    false_positives,
    find,
    froc,
    published_precision,
    sensitivity,
)

SIDE = 16


def drawn(*images: list[tuple[int, int, int, int, float]]) -> np.ndarray:
    """Maps (N, 1, SIDE, SIDE) of boxes: top, left, bottom, right and value."""
    maps = np.zeros((len(images), 1, SIDE, SIDE), dtype=np.float32)
    for i, boxes in enumerate(images):
        for top, left, bottom, right, value in boxes:
            maps[i, 0, top:bottom, left:right] = value
    return maps


def found(maps: np.ndarray, masks: np.ndarray, known: np.ndarray | None = None):
    known = np.ones(masks.shape[:2], dtype=bool) if known is None else known
    return find(maps, np.full(maps.shape[1], 0.05, dtype=np.float32), masks, known), known


def once(measure, maps: np.ndarray, masks: np.ndarray) -> float:
    return float(measure(*found(maps, masks), np.ones((1, len(maps)), dtype=int))[0, 0])


# Four images, two objects in the first, one in the second, none in the others.
TRUTH = drawn([(0, 0, 4, 4, 1), (8, 8, 12, 12, 1)], [(2, 2, 6, 6, 1)], [], []) > 0


def test_nothing_found_scores_nothing() -> None:
    nothing = np.zeros_like(TRUTH, dtype=np.float32)
    for measure in (froc, average_precision, sensitivity, false_positives):
        assert once(measure, nothing, TRUTH) == 0
    # The published rule looks at no image on which nothing was found: there is nothing left to be judged.
    assert np.isnan(once(published_precision, nothing, TRUTH))
    assert np.isnan(once(froc, nothing, np.zeros_like(TRUTH)))


def test_what_is_outlined_as_it_is_scores_one() -> None:
    for measure in (froc, average_precision, published_precision):
        assert once(measure, TRUTH.astype(np.float32), TRUTH) == pytest.approx(1, abs=1e-12)


def test_froc_by_hand() -> None:
    # By score: hit, false, hit, false, hit; one false positive is .25 of an image, two are .5.
    maps = drawn(
        [(0, 0, 4, 4, 0.9), (8, 8, 12, 12, 0.5)],
        [(2, 2, 6, 6, 0.2)],
        [(0, 0, 2, 2, 0.7)],
        [(0, 0, 2, 2, 0.3)],
    )
    #   .125 and .25 are reached with the first false positive, .5 with the second, the rest never.
    assert once(froc, maps, TRUTH) == pytest.approx((1 / 3 + 1 / 3 + 2 / 3 + 4 * 1) / 7)
    assert once(false_positives, maps, TRUTH) == 0.5


def test_equal_scores_are_taken_in_part() -> None:
    """One that says the same of every picture gains nothing by its scores all being equal."""
    masks = drawn(*[[(0, 0, 4, 4, 1)]] * 4, *[[]] * 4) > 0
    maps = drawn(*[[(1, 1, 3, 3, 0.5)]] * 8)
    # Of four false positives on eight images one may be at .125, two at .25.
    assert once(froc, maps, masks) == pytest.approx((1 / 4 + 2 / 4 + 5) / 7)


def test_an_object_is_hit_once_and_by_the_highest_point() -> None:
    # Two pieces in one object, and one that lies across two objects with its highest value in neither.
    masks = drawn([(0, 0, 8, 8, 1)], [(0, 0, 4, 4, 1), (0, 8, 4, 12, 1)]) > 0
    maps = drawn([(0, 0, 2, 2, 0.9), (4, 4, 6, 6, 0.8)], [(0, 0, 4, 12, 0.5), (2, 6, 3, 7, 0.6)])
    result, _ = found(maps, masks)
    assert result.point.tolist() == [1, 0, -1]
    assert result.objects.tolist() == [[1], [2]]
    assert once(sensitivity, maps, masks) == pytest.approx(1 / 3)


def test_corners_connect_and_images_do_not() -> None:
    masks = drawn([(14, 0, 16, 16, 1)], [(0, 0, 2, 16, 1), (4, 4, 6, 6, 1), (6, 6, 8, 8, 1)]) > 0
    assert found(masks.astype(np.float32), masks)[0].objects.tolist() == [[1], [2]]


def test_overlap_by_hand() -> None:
    # 4x4 against 4x6, 16 of 24 pixels: an overlap of 2/3, that is a hit at .40 to .65 and none at .70 and .75.
    masks = drawn([(0, 0, 4, 6, 1)]) > 0
    maps = drawn([(0, 0, 4, 4, 0.5)])
    result, _ = found(maps, masks)
    assert result.boxes.tolist() == [[True] * 6 + [False] * 2]
    assert once(average_precision, maps, masks) == pytest.approx(6 / 8)


def test_false_alarms_on_healthy_images_cost_but_not_by_the_published_rule() -> None:
    maps = drawn([(0, 0, 4, 4, 0.9), (8, 8, 12, 12, 0.9)], [(2, 2, 6, 6, 0.9)], [(0, 0, 2, 2, 0.95)], [])
    # Three objects, all found behind one false alarm: a precision of 3/4 at every recall.
    assert once(average_precision, maps, TRUTH) == pytest.approx(3 / 4)
    assert once(published_precision, maps, TRUTH) == pytest.approx(1)
    # An object that nothing was found for is none either.
    assert once(published_precision, maps[[0, 3, 2]], TRUTH[[0, 1, 2]]) == pytest.approx(1)
    assert once(average_precision, maps[[0, 3, 2]], TRUTH[[0, 1, 2]]) == pytest.approx(67 / 101 * 2 / 3)


def slow(maps: np.ndarray, masks: np.ndarray, images: list[int]) -> tuple[float, float]:
    """FROC and AP of some images, an image as often as it stands there: every piece walked alone."""
    from scipy.ndimage import find_objects, label

    predictions, objects, boxes = [], [], []
    for copy, i in enumerate(images):
        true, n = label(masks[i, 0], np.ones((3, 3)))
        objects += [(copy, j + 1) for j in range(n)]
        boxes += [(copy, box) for box in find_objects(true)]
        said, _ = label(maps[i, 0] >= 0.05, np.ones((3, 3)))
        for j, box in enumerate(find_objects(said)):
            inside = np.where(said == j + 1, maps[i, 0], -1)
            place = np.unravel_index(inside.argmax(), inside.shape)
            predictions.append((float(inside.max()), copy, true[place], box))
    predictions.sort(key=lambda p: -p[0])

    curve, hit, false = [], set(), 0
    for _, copy, inside, _ in predictions:
        if inside:
            hit.add((copy, inside))
        else:
            false += 1
        curve.append((false / len(images), len(hit) / len(objects)))
    at = [next((s for f, s in curve if f >= rate), curve[-1][1]) for rate in RATES]

    def overlap(a, b) -> float:
        one, two = np.zeros((2, SIDE, SIDE), dtype=bool)
        one[a], two[b] = True, True
        return (one & two).sum() / (one | two).sum()

    precisions = []
    for limit in IOUS:
        taken, true, curve = set(), 0, []
        for n, (_, copy, _, box) in enumerate(predictions):
            left = [(overlap(box, b), j) for j, (c, b) in enumerate(boxes) if c == copy and j not in taken]
            best = max(left, default=(0.0, -1))
            if best[0] >= limit:
                taken.add(best[1])
                true += 1
            curve.append((true / len(boxes), true / (n + 1)))
        precisions.append(
            np.mean(
                [max((p for r, p in curve if r >= step / 100 - 1e-9), default=0.0) for step in range(101)]
            )
        )
    return float(np.mean(at)), float(np.mean(precisions))


@pytest.mark.parametrize("seed", range(3))
def test_against_the_slow_walk_on_resamples(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = np.zeros((12, 1, SIDE, SIDE), dtype=bool)
    for i in range(8):
        for _ in range(rng.integers(1, 4)):
            y, x, h, w = (*rng.integers(0, 12, 2), *rng.integers(2, 6, 2))
            masks[i, 0, y : y + h, x : x + w] = True
    # Objects that are moved, shrunk and overlooked, and false ones.
    maps = np.roll(masks, rng.integers(-1, 2, 2), axis=(2, 3)) * rng.random((12, 1, 1, 1)).clip(0.1)
    maps[rng.random(maps.shape) < 0.04] = 0.02
    maps = (maps * rng.uniform(0.9, 1.1, maps.shape)).astype(np.float32)
    noise = rng.random(maps.shape) < 0.005
    maps[noise] = rng.random(noise.sum())  # no two scores are equal: among equal ones the walk has no order
    weights = patient_weights(np.arange(12) // 2, 6, seed)
    ours = [measure(*found(maps, masks), weights)[:, 0] for measure in (froc, average_precision)]
    for b, w in enumerate(weights):
        theirs = slow(maps, masks, np.repeat(np.arange(12), w).tolist())
        assert (ours[0][b], ours[1][b]) == pytest.approx(theirs, abs=1e-9)


def test_what_nobody_looked_for_is_neither_found_nor_missed() -> None:
    known = np.ones((4, 1), dtype=bool)
    known[1:3] = False
    maps = drawn([(0, 0, 4, 4, 0.9)], [(9, 9, 12, 12, 0.95)], [(0, 0, 2, 2, 0.95)], [])
    every, _ = found(maps, TRUTH, known)
    some, _ = found(maps[[0, 3]], TRUTH[[0, 3]])
    ones = np.ones((2, 1), dtype=bool)
    for measure in (froc, average_precision):
        assert measure(every, known, np.ones((1, 4), int)) == measure(some, ones, np.ones((1, 2), int))
