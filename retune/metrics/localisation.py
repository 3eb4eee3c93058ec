"""How well findings are found, worked out from a list of what was found, so that no map and no mask is needed again.

An object is a connected piece of a mask, corners included: outlines that touch are one. What is found is a connected
piece of what a map predicts; its score is the map's highest value in it, its point where that is, its box what holds it.
Whether it is a hit is settled within its image, and so is the same in every resample of images: weights do the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from retune.metrics.binary import Floats
from retune.metrics.bootstrap import blocks

Ints = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

RATES: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image at which Object-CXR's organisers ask for the sensitivity."""
IOUS: Final = (0.40, 0.45, 0.50, 0.55, 0.60, 0.65, 0.70, 0.75)
"""From which overlap with an object's box on a box is a hit, in the detectors of MGCA, M-FLAG and G2D."""
ROWS: Final = ("image", "finding", "score", "point", "boxes")
"""What is kept of a piece."""
HIT, AGAIN, MISS = 1, 0, -1
"""A point: the first in an object, a further one in it, which counts for nothing, and one in no object."""
RECALLS: Final = 100
"""Steps of recall at which COCO reads the precision."""


@dataclass(frozen=True)
class Found:
    """What was found of K findings on N images, D pieces in all.

    Args:
        image: Which image each is on, (D,).
        finding: Of which finding each is, (D,).
        score: (D,).
        point: ``HIT``, ``AGAIN`` or ``MISS``, (D,).
        boxes: Whether its box is the one that hits an object's, for each of ``IOUS``, bool (D, 8).
        objects: How many there are to be found, (N, K).
    """

    image: Ints
    finding: Ints
    score: NDArray[np.float32]
    point: NDArray[np.int8]
    boxes: BoolArray
    objects: Ints


def find(maps: NDArray[np.float32], limits: NDArray[np.float32], masks: BoolArray, known: BoolArray) -> Found:
    """Find pieces of what maps predict, and objects.

    Args:
        maps: (N, K, side, side).
        limits: Of each finding the value from which on it is predicted, (K,).
        masks: Bool (N, K, side, side).
        known: Which findings were looked for, bool (N, K); on other images nothing is found.
    """
    said = _pieces((maps >= limits[:, None, None]) & known[:, :, None, None], maps)
    true = _pieces(masks & known[:, :, None, None], maps)
    score = maps.ravel()[said.peak]
    order = np.argsort(-score, kind="stable")
    inside = true.labels.ravel()[said.peak]
    point = np.where(inside > 0, AGAIN, MISS).astype(np.int8)
    objects, first = np.unique(inside[order], return_index=True)
    point[order[first[objects > 0]]] = HIT
    return Found(
        said.plane // known.shape[1],
        said.plane % known.shape[1],
        score,
        point,
        _matched(said, true, order),
        np.bincount(true.plane, minlength=known.size).reshape(known.shape),
    )


def to_arrays(lists: Sequence[Found]) -> dict[str, NDArray[Any]]:
    """Lists of what was found of the same objects, as they are stored: ``counted`` says of which list a piece is."""
    of = {name: np.concatenate([getattr(found, name) for found in lists]) for name in ROWS}
    return {
        **of,
        "boxes": np.packbits(of["boxes"], axis=1)[:, 0],
        "counted": np.repeat(np.arange(len(lists)), [len(found.image) for found in lists]),
        "objects": lists[0].objects,
    }


def from_arrays(arrays: Mapping[str, NDArray[Any]], n: int) -> list[Found]:
    """The first n of the lists that :func:`to_arrays` stored."""
    boxes = np.unpackbits(arrays["boxes"][:, None], axis=1, count=len(IOUS)).astype(bool)
    rows = {**{name: arrays[name] for name in ROWS}, "boxes": boxes}
    return [
        Found(**{name: of[arrays["counted"] == i] for name, of in rows.items()}, objects=arrays["objects"])
        for i in range(n)
    ]


def froc(found: Found, known: BoolArray, weights: NDArray[Any]) -> Floats:
    """Mean sensitivity at :data:`RATES` false positives per image; finding nothing scores 0.

    As Object-CXR's organisers define it: pieces are taken from the highest score down to the one with which there are as
    many false positives per image; a sensitivity is the share of objects that have a point in them. Where there are
    never as many, all are taken (their script repeats the last sensitivity it has, and fails where it has none). Of equal
    scores as large a part is taken as there may be false positives: what any order of them comes to on average.

    JF Healthcare, "Object-CXR - Automatic detection of foreign objects on chest X-rays", MIDL 2020, ``froc.py``.

    Args:
        found: Of N images and K findings.
        known: Which findings were looked for, bool (N, K).
        weights: (B, N) how often each image counts in each resample.

    Returns:
        (B, K); NaN where there is no object.
    """
    return _by_finding(found, known, weights, _froc)


def average_precision(found: Found, known: BoolArray, weights: NDArray[Any]) -> Floats:
    """Average precision of boxes as COCO has it, mean over :data:`IOUS`; finding nothing scores 0.

    Over all images: what is found where no object is lowers the precision, an object that is not found the recall. The
    precision is read at 101 recalls, the best of those at which as much or more is recalled. Equal scores are taken
    together.

    Args:
        found: Of N images and K findings.
        known: Which findings were looked for, bool (N, K).
        weights: (B, N) how often each image counts in each resample.

    Returns:
        (B, K); NaN where there is no object.
    """
    return _by_finding(found, known, weights, _average_precision)


def published_precision(found: Found, known: BoolArray, weights: NDArray[Any]) -> Floats:
    """Average precision as MGCA's detector has it, (B, K): images without objects, or with nothing found, are skipped.

    False alarms on healthy images cost nothing, and neither do objects on images on which nothing was found.

    Args:
        found: Of N images and K findings.
        known: Which findings were looked for, bool (N, K).
        weights: (B, N) how often each image counts in each resample.
    """
    anything = np.zeros(known.shape, dtype=bool)
    anything[found.image, found.finding] = True
    return average_precision(found, known & anything & (found.objects > 0), weights)


def sensitivity(found: Found, known: BoolArray, weights: NDArray[Any]) -> Floats:
    """Share of the objects that have a point in them, all pieces taken, (B, K); NaN where there is no object."""
    return _by_finding(found, known, weights, lambda of: _share(of.drawn @ (of.point == HIT), of.total))


def false_positives(found: Found, known: BoolArray, weights: NDArray[Any]) -> Floats:
    """Points in no object for each image, all pieces taken, (B, K); NaN where no image is known."""
    return _by_finding(found, known, weights, lambda of: _share(of.drawn @ (of.point == MISS), of.images))


@dataclass(frozen=True)
class _Ranked:
    """What was found of one finding, from the highest score down, in some resamples.

    Args:
        end: Of each piece the last with the same score, (D,).
        point: (D,).
        boxes: (D, 8).
        drawn: How often each counts, (b, D).
        images: How many images there are, (b,).
        total: How many objects, (b,).
    """

    end: NDArray[np.intp]
    point: NDArray[np.int8]
    boxes: BoolArray
    drawn: Ints
    images: Ints
    total: Ints


def _by_finding(
    found: Found, known: BoolArray, weights: NDArray[Any], measure: Callable[[_Ranked], Floats]
) -> Floats:
    out = np.full((len(weights), known.shape[1]), np.nan)
    for k in range(known.shape[1]):
        of = np.flatnonzero((found.finding == k) & known[found.image, k])
        of = of[np.argsort(-found.score[of], kind="stable")]
        falling = -found.score[of]
        end = np.searchsorted(falling, falling, side="right") - 1
        for block in blocks(len(weights)):
            w = weights[block].astype(np.int64)
            out[block, k] = measure(
                _Ranked(
                    end,
                    found.point[of],
                    found.boxes[of],
                    w[:, found.image[of]],
                    w @ known[:, k],
                    w @ np.where(known[:, k], found.objects[:, k], 0),
                )
            )
    return out


def _froc(of: _Ranked) -> Floats:
    hits, misses = (
        # Before the first piece there is nothing.
        np.pad(np.cumsum(of.drawn * (of.point == kind), axis=1)[:, of.end], ((0, 0), (1, 0)))
        for kind in (HIT, MISS)
    )
    found = np.zeros(len(hits))
    for rate in RATES:
        limit = rate * of.images
        after = np.minimum((misses < limit[:, None]).sum(axis=1), misses.shape[1] - 1)[:, None]
        before = np.maximum(after - 1, 0)
        (h0, h1), (m0, m1) = (
            [np.take_along_axis(curve, at, axis=1)[:, 0] for at in (before, after)]
            for curve in (hits, misses)
        )
        # Only a tie has both hits and misses: of it as large a part is taken as is allowed.
        part = np.where(m1 > limit, (limit - m0) / np.maximum(m1 - m0, 1), 1.0)
        found += h0 + part * (h1 - h0)
    return _share(found / len(RATES), of.total)


def _average_precision(of: _Ranked) -> Floats:
    # Between two hits the precision only falls: it is the best at hits.
    hit = np.flatnonzero(of.boxes.any(axis=1))
    end = of.end[hit]
    called = np.cumsum(of.drawn, axis=1)[:, end]
    last = np.searchsorted(end, end, side="right") - 1
    found = np.zeros(len(of.drawn))
    for boxes in of.boxes[hit].T:
        true = np.cumsum(of.drawn[:, hit] * boxes, axis=1)[:, last]
        precision = np.maximum.accumulate((true / np.maximum(called, 1))[:, ::-1], axis=1)[:, ::-1]
        # Whole numbers: no recall is missed by a rounding error.
        reached = np.where(true > 0, RECALLS * true // np.maximum(of.total, 1)[:, None] + 1, 0)
        found += (precision * np.diff(reached, axis=1, prepend=0)).sum(axis=1)
    return np.where(of.total > 0, found / (len(IOUS) * (RECALLS + 1)), np.nan)


def _share(part: NDArray[Any], of: Ints) -> Floats:
    share: Floats = np.where(of > 0, part / np.maximum(of, 1), np.nan)
    return share


@dataclass(frozen=True)
class _Pieces:
    """Connected pieces of P masks, M in all, one mask after the other.

    Args:
        labels: Number of the piece at each pixel, from 1; 0 in none; (P, side, side).
        plane: In which mask each is, (M,).
        peak: Where its highest value is among all pixels of all masks, (M,).
        boxes: Top, left, bottom and right, the latter two past the end, (M, 4).
    """

    labels: NDArray[np.int32]
    plane: NDArray[np.intp]
    peak: NDArray[np.intp]
    boxes: NDArray[np.intp]


def _pieces(masks: BoolArray, values: NDArray[np.float32]) -> _Pieces:
    """Pieces of masks (N, K, side, side), and where each has its highest value: the first of equal ones."""
    from scipy import ndimage

    planes = masks.reshape(-1, *masks.shape[2:])
    within = np.zeros((3, 3, 3), dtype=bool)
    within[1] = True
    labels, _ = ndimage.label(planes, within)
    pixels = np.flatnonzero(labels)
    of = labels.ravel()[pixels]
    order = np.lexsort((-values.ravel()[pixels], of))
    pixels = pixels[order]
    first = np.flatnonzero(np.diff(of[order], prepend=0))
    plane, *places = np.unravel_index(pixels, planes.shape)
    low, high = ([extreme.reduceat(at, first) for at in places] for extreme in (np.minimum, np.maximum))
    boxes = np.stack([*low, *(at + 1 for at in high)], axis=1)
    return _Pieces(labels, plane[first], pixels[first], boxes)


def _matched(said: _Pieces, true: _Pieces, order: NDArray[np.intp]) -> BoolArray:
    """Which boxes are the ones that hit an object's, (D, 8): each, from the highest score down, the best that is left."""
    n = np.bincount(true.plane, minlength=len(said.labels))
    mine = n[said.plane]
    d = np.repeat(np.arange(len(mine)), mine)
    nth = np.arange(len(d)) - np.repeat(np.cumsum(mine) - mine, mine)
    t = (np.cumsum(n) - n)[said.plane][d] + nth
    a, b = said.boxes[d].T, true.boxes[t].T
    both = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(min=0).prod(axis=0)
    area_a, area_b = ((box[2:] - box[:2]).prod(axis=0) for box in (a, b))
    iou = both / (area_a + area_b - both)
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    limits, hit = np.array(IOUS), np.zeros((len(mine), len(IOUS)), dtype=bool)
    taken = np.zeros((len(true.plane), len(IOUS)), dtype=bool)
    near = np.flatnonzero(iou >= limits[0])
    # A match takes its object from all that come later; few boxes are near one.
    for i in near[np.lexsort((-iou[near], rank[d[near]]))]:
        free = (iou[i] >= limits) & ~hit[d[i]] & ~taken[t[i]]
        hit[d[i]] |= free
        taken[t[i]] |= free
    return hit
